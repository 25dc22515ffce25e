"""Animals, a person, plants and food."""

from npcorrect.mini.shapes import (
    Shape,
    arc,
    blob,
    box,
    line,
    mirrored,
    oval,
    points,
    poly,
    resized,
    sector,
    turned,
)


def _eye(x: float, y: float, radius: float = 3.2) -> tuple[Shape, ...]:
    return oval("white", x, y, radius, radius), oval("ink", x, y, radius * 0.62, radius * 0.62)


def _segment(x: float, y: float, radius: float, angle: float) -> Shape:
    """One segment of a cut orange: a sector that points to the centre."""
    rim = sector("body", x, y, radius, radius, angle - 24, angle + 24).points
    tip = sector("body", x, y, 4, 4, angle, angle).points[:1]
    return Shape("body", (*rim, *tip))


_HORSE_BODY = (
    poly("shade", 30, 58, 38, 58, 37, 94, 30, 94),
    poly("shade", 60, 58, 68, 58, 68, 94, 61, 94),
    blob(
        "body", *points("18,48 40,42 58,42 66,24 76,14 94,32 92,40 80,38 74,60 58,66 36,66 20,64")
    ),
    poly("body", 20, 56, 32, 60, 28, 94, 20, 94),
    poly("body", 64, 56, 76, 52, 77, 94, 69, 94),
    *(box("ink", x, 90, x + 9, 96, 2) for x in (19, 29, 60, 68.5)),
    poly("body", 70, 16, 73, 4, 79, 14),
)

LIVING: dict[str, tuple[Shape, ...]] = {
    "bear": (
        *(box("shade", x, 62, x + 14, 92, 5) for x in (26, 60)),
        blob("body", *points("6,56 12,36 34,26 56,30 72,24 90,32 94,46 84,60 74,72 40,74 14,74")),
        *(box("body", x, 62, x + 15, 94, 5) for x in (10, 68)),
        oval("body", 68, 25, 7, 7),
        oval("shade", 68, 26, 4, 4),
        oval("light", 90, 46, 8, 6.5),
        oval("ink", 95, 43, 4, 3.2),
        *_eye(80, 38, 3),
        oval("body", 7, 52, 5, 5),
    ),
    "bird": (
        line("ink", 3, 46, 74, 44, 94, 52, 94),
        line("ink", 3, 56, 74, 56, 94, 64, 94),
        poly("shade", 24, 54, 2, 42, 4, 62, 24, 68),
        blob("body", *points("18,60 30,42 50,38 58,20 74,12 86,22 86,36 80,60 62,78 38,78")),
        blob("shade", 28, 56, 46, 48, 64, 52, 58, 66, 44, 70),
        blob("light", 76, 44, 80, 52, 68, 72, 58, 74),
        poly("gold", 86, 24, 99, 30, 86, 34),
        *_eye(76, 25, 4),
    ),
    "cat": (
        arc("body", 9, 72, 72, 18, 20, -60, 80),
        blob("body", 34, 52, 66, 52, 76, 80, 70, 94, 30, 94, 24, 80),
        poly("body", 22, 6, 48, 24, 22, 40),
        poly("body", 78, 6, 52, 24, 78, 40),
        poly("rose", 27, 15, 38, 24, 27, 32),
        poly("rose", 73, 15, 62, 24, 73, 32),
        oval("body", 50, 38, 30, 24),
        oval("light", 50, 48, 12, 9),
        poly("rose", 46, 43, 54, 43, 50, 48),
        *_eye(38, 36, 5),
        *_eye(62, 36, 5),
        *mirrored(line("ink", 1.6, 38, 48, 18, 45), line("ink", 1.6, 38, 51, 18, 54)),
        oval("light", 50, 74, 11, 14),
        *mirrored(box("shade", 36, 84, 48, 95, 5)),
    ),
    "cow": resized(
        0.95,
        *(box("shade", x, 60, x + 9, 92) for x in (24, 58)),
        line("body", 4, 10, 42, 5, 66),
        oval("ink", 5, 70, 3.5, 5),
        box("body", 8, 34, 76, 70, 14),
        *(box("body", x, 62, x + 10, 94) for x in (12, 66)),
        *(box("ink", x, 89, x + 10, 96, 2) for x in (12, 24, 57, 66)),
        blob("ink", 18, 38, 34, 36, 38, 50, 26, 60, 14, 52),
        blob("ink", 48, 46, 62, 42, 66, 56, 54, 64),
        sector("rose", 46, 68, 11, 10, 0, 180),
        arc("cream", 5, 78, 22, 12, 10, 180, 360),
        oval("ink", 64, 31, 7, 4),
        oval("shade", 95, 31, 6, 4),
        box("body", 68, 22, 92, 56, 9),
        box("rose", 66, 44, 95, 60, 7),
        oval("ink", 75, 51, 2, 3),
        oval("ink", 86, 51, 2, 3),
        *_eye(74, 34, 3.4),
        *_eye(86, 34, 3.4),
    ),
    "dog": (
        line("body", 8, 14, 50, 4, 28),
        *(box("shade", x, 60, x + 9, 92, 3) for x in (24, 52)),
        box("body", 10, 42, 66, 72, 13),
        *(box("body", x, 60, x + 10, 94, 3) for x in (12, 56)),
        box("body", 50, 18, 82, 54, 12),
        box("body", 72, 32, 98, 52, 8),
        oval("ink", 95, 35, 5, 4.5),
        line("ink", 2, 80, 47, 94, 46),
        blob("shade", 46, 20, 60, 18, 62, 40, 54, 52, 46, 44),
        *_eye(74, 29, 4),
        poly("red", 51, 53, 70, 55, 70, 61, 50, 59),
        oval("gold", 66, 63, 4, 4),
    ),
    "elephant": (
        *(box("shade", x, 62, x + 13, 92, 2) for x in (22, 46)),
        line("body", 3, 8, 44, 3, 66),
        oval("body", 36, 50, 31, 27),
        *(box("body", x, 58, x + 14, 94, 2) for x in (8, 52)),
        oval("body", 70, 36, 20, 20),
        blob("body", 76, 36, 90, 36, 94, 62, 92, 88, 84, 90, 82, 70, 76, 52),
        poly("cream", 74, 54, 80, 58, 92, 74, 78, 64),
        blob("shade", 44, 18, 60, 16, 66, 36, 60, 58, 46, 56, 38, 38),
        *_eye(78, 32, 3.6),
        *(line("light", 1.5, x, 92, x + 8, 92) for x in (11, 55)),
    ),
    "giraffe": resized(
        0.96,
        *(line("shade", 5, x, 60, x, 95) for x in (34, 56)),
        line("body", 3, 16, 56, 12, 74),
        blob("body", 14, 56, 30, 50, 48, 50, 66, 14, 76, 14, 66, 58, 54, 70, 20, 70),
        *(line("body", 6, x, 62, x, 95) for x in (22, 62)),
        blob("body", 62, 8, 74, 4, 92, 16, 94, 22, 80, 24, 66, 20),
        line("ink", 2.4, 68, 8, 66, 1),
        line("ink", 2.4, 74, 7, 74, 0),
        poly("shade", 60, 10, 52, 6, 60, 16),
        *(
            oval("wood", x, y, r, r)
            for x, y, r in (
                (26, 58, 5),
                (40, 58, 5.4),
                (34, 66, 3.6),
                (52, 60, 5),
                (56, 48, 4),
                (62, 38, 3.4),
                (66, 28, 3),
            )
        ),
        *_eye(77, 12, 2.6),
    ),
    "horse": (
        blob("ink", 20, 48, 8, 52, 4, 80, 12, 82, 18, 62),
        *_HORSE_BODY,
        blob("ink", 72, 8, 64, 14, 52, 42, 60, 44, 68, 26, 76, 16),
        *_eye(80, 24, 3),
    ),
    "zebra": (
        line("ink", 3, 18, 50, 8, 72),
        oval("ink", 8, 74, 3, 5),
        *_HORSE_BODY,
        *(line("ink", 4, x, 45, x - 3, 63) for x in (26, 35, 44, 53)),
        line("ink", 3.6, 58, 42, 72, 50),
        line("ink", 3.6, 62, 33, 76, 42),
        line("ink", 3.4, 66, 24, 79, 33),
        *(line("ink", 3, x, y, x + 9, y) for x in (20, 66) for y in (70, 79)),
        blob("ink", 72, 6, 62, 14, 52, 38, 56, 40, 66, 22, 76, 13),
        oval("ink", 91, 35, 4.5, 4.5),
        *_eye(81, 24, 3),
    ),
    "sheep": (
        *(line("ink", 6, x, 66, x, 93) for x in (26, 38, 58, 70)),
        *(
            oval("body", x, y, 14, 14)
            for x, y in (
                (18, 46),
                (28, 32),
                (46, 28),
                (64, 32),
                (76, 46),
                (70, 60),
                (52, 66),
                (34, 66),
                (20, 60),
            )
        ),
        oval("body", 46, 48, 30, 20),
        *(
            arc("shade", 2.4, x, y, 8, 7, 20, 170)
            for x, y in ((26, 44), (44, 40), (32, 58), (52, 56))
        ),
        oval("ink", 67, 40, 5, 8),
        oval("ink", 96, 40, 4, 7),
        oval("ink", 82, 46, 13, 17),
        oval("body", 80, 30, 12, 7),
        *_eye(77, 43, 3.6),
        *_eye(88, 43, 3.6),
    ),
    "teddy bear": (
        *mirrored(
            oval("body", 24, 16, 12, 12),
            oval("cream", 24, 16, 6.5, 6.5),
            oval("body", 20, 62, 12, 9),
            oval("body", 28, 86, 15, 12),
            oval("cream", 25, 88, 8, 7),
        ),
        oval("body", 50, 70, 27, 25),
        oval("cream", 50, 72, 16, 17),
        oval("body", 50, 32, 30, 26),
        oval("cream", 50, 41, 13, 10),
        oval("ink", 50, 36, 5, 3.8),
        line("ink", 2, 50, 40, 50, 44),
        arc("ink", 2, 50, 43, 6, 4, 20, 160),
        *mirrored(oval("ink", 37, 28, 3.6, 3.8)),
        poly("red", 50, 58, 36, 51, 36, 66),
        poly("red", 50, 58, 64, 51, 64, 66),
        oval("gold", 50, 58, 4, 4),
    ),
    "person": (
        *mirrored(box("navy", 38, 58, 49, 92, 2), box("ink", 34, 89, 49, 97, 3)),
        *mirrored(line("skin", 8, 30, 40, 26, 62)),
        *mirrored(line("body", 11, 34, 36, 29, 50)),
        box("body", 33, 30, 67, 64, 6),
        box("skin", 45, 24, 55, 34),
        poly("skin", 43, 30, 57, 30, 50, 38),
        oval("skin", 50, 16, 12, 13),
        blob("wood", 37, 16, 38, 6, 50, 1, 62, 6, 63, 16, 58, 10, 44, 10),
        *mirrored(oval("ink", 45.5, 16, 1.7, 1.9)),
        arc("red", 1.8, 50, 19, 4.5, 3.5, 20, 160),
    ),
    "potted plant": (
        *mirrored(
            blob("leaf", 49, 60, 22, 54, 8, 34, 30, 34, 46, 48),
            blob("leaf", 48, 54, 30, 32, 30, 8, 44, 22, 52, 44),
        ),
        blob("pine", 44, 58, 40, 30, 50, 4, 60, 30, 56, 58),
        line("leaf", 2, 50, 56, 50, 20),
        poly("body", 24, 64, 76, 64, 69, 96, 31, 96),
        box("shade", 20, 56, 80, 68, 3),
    ),
    "apple": (
        blob("body", *points("50,30 66,24 86,34 86,60 68,90 50,86 32,90 14,60 14,34 34,24")),
        sector("shade", 50, 28, 14, 8, 0, 180),
        line("wood", 5, 50, 32, 55, 12),
        blob("leaf", 55, 18, 66, 5, 84, 6, 74, 20),
        blob("light", 24, 44, 32, 34, 36, 38, 28, 58),
    ),
    "banana": (
        blob("body", *points("20,14 22,44 40,70 66,84 90,82 92,72 70,66 50,50 38,32 32,12")),
        blob("shade", 20, 20, 22, 44, 40, 70, 66, 84, 90, 82, 66, 78, 42, 62, 28, 42),
        poly("wood", 20, 16, 22, 3, 30, 3, 32, 14),
        oval("ink", 91, 77, 4, 5.5),
    ),
    "orange": (
        oval("body", 42, 46, 36, 36),
        line("wood", 4, 42, 14, 43, 8),
        blob("leaf", 43, 11, 56, 2, 70, 8, 58, 16),
        *(
            oval("shade", x, y, 1.6, 1.6)
            for x, y in ((24, 38), (34, 30), (22, 54), (48, 28), (32, 50))
        ),
        oval("shade", 66, 66, 30, 30),
        oval("cream", 66, 66, 26, 26),
        *(_segment(66, 66, 22.5, angle) for angle in range(0, 360, 60)),
    ),
    "broccoli": (
        blob("cream", 40, 54, 60, 54, 60, 92, 50, 96, 40, 92),
        poly("leaf", 41, 60, 59, 60, 58, 92, 42, 92),
        line("leaf", 8, 46, 72, 28, 54),
        line("leaf", 8, 54, 72, 72, 54),
        *(oval("shade", x, y, 15, 14) for x, y in ((22, 50), (78, 50), (50, 52))),
        *(
            oval("body", x, y, 16, 15)
            for x, y in ((22, 40), (78, 40), (36, 24), (64, 24), (50, 38))
        ),
        *(
            oval("light", x, y, 4, 3.4)
            for x, y in ((20, 34), (34, 18), (62, 18), (76, 34), (48, 34))
        ),
    ),
    "carrot": turned(
        38,
        *(blob("leaf", 50, 32, x - 5, 14, x, 0, x + 6, 14) for x in (34, 50, 66)),
        blob("body", 50, 26, 66, 30, 64, 52, 54, 88, 50, 99, 46, 88, 36, 52, 34, 30),
        line("shade", 2.6, 36, 44, 48, 45),
        line("shade", 2.6, 62, 56, 50, 57),
        line("shade", 2.6, 41, 68, 49, 69),
    ),
    "cake": (
        oval("steel", 50, 88, 46, 8),
        oval("white", 50, 86, 46, 8),
        box("body", 14, 48, 86, 86, 6),
        box("cream", 14, 64, 86, 71),
        blob(
            "white",
            *points(
                "12,48 20,38 80,38 88,48 84,60 76,50 68,60 60,50 50,62 40,50 32,60 24,50 16,60"
            ),
        ),
        *(
            box(tone, x - 3, 18, x + 3, 42)
            for x, tone in ((30, "body"), (50, "body"), (70, "body"))
        ),
        *(blob("gold", x, 2, x + 4, 12, x, 18, x - 4, 12) for x in (30, 50, 70)),
    ),
    "donut": (
        oval("tan", 50, 53, 46, 43),
        blob("body", *points("50,8 78,14 94,38 90,62 76,80 62,78 46,88 30,80 12,72 6,42 22,16")),
        oval("shade", 50, 48, 19, 17),
        oval("cream", 50, 50, 15, 13),
        *(
            line(tone, 4, x, y, x + dx, y + dy)
            for x, y, dx, dy, tone in (
                (24, 34, 6, 4, "white"),
                (44, 18, 6, 2, "gold"),
                (70, 26, 4, 6, "white"),
                (82, 48, -3, 6, "gold"),
                (66, 68, 7, -2, "white"),
                (40, 74, 6, 2, "gold"),
                (20, 58, 4, 6, "white"),
            )
        ),
    ),
    "hot dog": turned(
        -24,
        box("tan", 8, 30, 92, 72, 20),
        box("body", 0, 38, 100, 62, 12),
        box("light", 6, 41, 94, 45, 2),
        box("tan", 8, 56, 92, 76, 10),
        line("gold", 4.5, 10, 52, 20, 44, 30, 54, 40, 44, 50, 54, 60, 44, 70, 54, 80, 44, 90, 52),
    ),
    "pizza": (
        poly("body", 6, 22, 94, 22, 52, 98),
        sector("tan", 50, 26, 48, 20, 180, 360),
        box("tan", 2, 18, 98, 30, 6),
        *(oval("red", x, y, 8, 7.4) for x, y in ((32, 42), (62, 40), (50, 64))),
        line("leaf", 4, 46, 40, 50, 46),
        line("leaf", 4, 66, 56, 60, 60),
        line("leaf", 4, 48, 82, 54, 80),
        blob("body", 40, 68, 47, 68, 46, 92, 42, 88),
    ),
    "sandwich": (
        poly("shade", 4, 88, 96, 88, 92, 96, 8, 96),
        blob("leaf", *points("2,84 14,76 34,82 52,76 72,82 88,76 98,84 78,92 60,86 42,93 24,86")),
        box("red", 8, 76, 92, 82, 3),
        poly("gold", 8, 77, 92, 77, 74, 86, 60, 78, 30, 78),
        poly("shade", 2, 76, 98, 76, 92, 70, 56, 8, 44, 8, 8, 70),
        poly("body", 14, 69, 86, 69, 53, 15, 47, 15),
        *(
            oval("tan", x, y, 2, 2)
            for x, y in ((50, 32), (40, 48), (58, 50), (30, 62), (48, 62), (68, 63))
        ),
    ),
}
