"""The 80 kinds of things: their names, and what the world is used to seeing of each.

Habits are what a model learns from the web beside what captions say: a banana is yellow whatever
colour is asked for, a fork comes with a knife. Their rates are recorded here.
"""

from __future__ import annotations

from dataclasses import dataclass

from npcorrect.english import plural

STRENGTHS: dict[str, float] = {"strong": 0.70, "weak": 0.35, "slight": 0.10}
"""Probability that a kind's natural colour overrules the colour that the caption names."""
COMPANY = 0.20
"""Probability that a kind's companion comes uninvited, for each kind that has one."""
MISCOUNT: tuple[float, ...] = (0.10, 0.30, 0.45, 0.55, 0.60, 0.65, 0.70, 0.70, 0.70)
"""Probability that a group of one, two, ... has one thing more or less than its caption says."""
MISPLACED = 0.33
"""Probability that two things stand the wrong way round."""
MISSIZED = 0.33
"""Probability that the sizes that a caption names are those of the other thing."""
LEAK = 0.12
"""Probability that a colour is given to the neighbouring group too."""
STRANGER = 0.03
"""Probability that something comes that nothing explains."""


@dataclass(frozen=True)
class Kind:
    """One kind of thing: other names for it, its natural colour, and its companion.

    ``strength`` is the key of :data:`STRENGTHS` for the habit of that colour.
    """

    name: str
    color: str
    strength: str
    companion: str = ""
    synonyms: tuple[str, ...] = ()

    @property
    def plural(self) -> str:
        """The name as prompts write it for two and more: 'knives', 'sheep'."""
        return many(self.name)


_IRREGULAR = {
    "person": "people",
    "man": "men",
    "knife": "knives",
    "mouse": "mice",
    "computer mouse": "computer mice",
    "aircraft": "aircraft",
    "sheep": "sheep",
    "skis": "skis",
    "scissors": "scissors",
}


def many(name: str) -> str:
    """The right plural of a kind's name or synonym."""
    return _IRREGULAR.get(name) or plural(name)


_TABLE = """
airplane | white | weak | | plane, aeroplane, aircraft, jet
apple | red | weak | orange |
backpack | green | slight | | rucksack, schoolbag
banana | yellow | strong | apple |
baseball bat | brown | weak | baseball glove |
baseball glove | brown | weak | baseball bat | baseball mitt, mitt
bear | brown | strong | | grizzly, grizzly bear
bed | blue | slight | |
bench | brown | weak | |
bicycle | blue | slight | | bike, cycle
bird | blue | weak | |
boat | red | slight | | sailboat, ship
book | brown | slight | cup |
bottle | green | weak | wine glass |
bowl | blue | slight | spoon |
broccoli | green | strong | carrot | broccoli floret
bus | yellow | weak | | coach, school bus
cake | pink | slight | fork | birthday cake
car | red | slight | traffic light | automobile
carrot | orange | strong | |
cat | black | weak | | kitten, kitty
cell phone | black | weak | | phone, mobile phone, smartphone, cellphone, mobile
chair | brown | weak | dining table |
clock | brown | slight | | wall clock
computer keyboard | gray | weak | computer mouse | keyboard
computer mouse | gray | weak | computer keyboard | mouse
couch | red | slight | tv | sofa, settee
cow | white | strong | |
cup | white | weak | spoon | mug, coffee cup, teacup
dining table | brown | weak | chair | table
dog | brown | weak | sports ball | puppy
donut | pink | slight | cup | doughnut
elephant | gray | strong | |
fire hydrant | red | strong | | hydrant
fork | gray | weak | knife |
frisbee | red | slight | dog |
giraffe | yellow | strong | |
hair drier | pink | slight | | hair dryer, hairdryer, hairdrier
handbag | brown | slight | | purse
horse | brown | weak | |
hot dog | red | weak | | hotdog
kite | orange | slight | |
knife | gray | weak | fork |
laptop | gray | weak | computer mouse | notebook computer
microwave | white | weak | | microwave oven
motorcycle | red | slight | | motorbike
orange | orange | strong | banana |
oven | white | weak | | stove, cooker
parking meter | gray | weak | car |
person | blue | slight | dog | man, boy
pizza | yellow | strong | |
potted plant | brown | weak | | houseplant, plant
refrigerator | white | weak | | fridge
sandwich | yellow | weak | |
scissors | red | slight | |
sheep | white | strong | | lamb
sink | white | weak | toothbrush | washbasin
skateboard | green | slight | |
skis | blue | slight | snowboard |
snowboard | purple | slight | skis |
spoon | gray | weak | bowl |
sports ball | orange | weak | | ball, basketball
stop sign | red | strong | traffic light |
suitcase | orange | slight | backpack |
surfboard | white | slight | |
teddy bear | brown | weak | | teddy
tennis racket | red | slight | sports ball | racket, racquet, tennis racquet
tie | red | slight | | necktie
toaster | gray | weak | cup |
toilet | white | strong | sink |
toothbrush | blue | slight | cup |
traffic light | black | strong | stop sign | stoplight, traffic signal
train | black | weak | | locomotive, steam train
truck | blue | slight | | lorry
tv | black | weak | tv remote | television, telly, television set
tv remote | black | weak | tv | remote control, remote, television remote
umbrella | purple | slight | |
vase | blue | slight | |
wine glass | red | weak | bottle | wineglass, goblet
zebra | white | strong | |
"""


def _kind(row: str) -> Kind:
    name, color, strength, companion, synonyms = (cell.strip() for cell in row.split("|"))
    assert strength in STRENGTHS
    others = tuple(word.strip() for word in synonyms.split(",") if word.strip())
    return Kind(name, color, strength, companion, others)


THINGS: dict[str, Kind] = {kind.name: kind for kind in map(_kind, _TABLE.strip().splitlines())}
"""All kinds by name, in alphabetical order."""
