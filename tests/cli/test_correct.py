"""``npc correct`` in process, on fakes: folders, tables, settings, exit codes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from re import findall
from typing import Any

import pytest
from typer.testing import CliRunner

from npcorrect.cli import app
from npcorrect.cli.show import show_result
from npcorrect.diffusion.fake import FAKE_DEFAULTS
from npcorrect.records import Request
from npcorrect.session import Session, SessionSettings
from tests.fakes import FakeViewer, session

PROMPT = "three red apples"
ROOT = Path(__file__).parents[2]


@pytest.fixture
def viewer(monkeypatch: pytest.MonkeyPatch) -> FakeViewer:
    """What the verifier of all sessions sees; no model is loaded."""
    made = FakeViewer(["four apples", ""])

    @contextmanager
    def open_session(settings: SessionSettings) -> Iterator[Session]:
        yield session(made, settings=settings)

    # In this order: a module that is imported meanwhile would keep what stands in.
    monkeypatch.setattr("npcorrect.batch.open_session", open_session)
    monkeypatch.setattr("npcorrect.session.open_session", open_session)
    return made


def npc(*arguments: str, **more: Any) -> Any:
    environment = {"COLUMNS": "200", **more.pop("env", {})}
    return CliRunner(env=environment).invoke(app, arguments, **more)


def test_the_table_says_what_was_asked_and_seen(viewer: FakeViewer, tmp_path: Path) -> None:
    done = npc("correct", PROMPT, "--ranker", "source", "--out", str(tmp_path / "out"))
    assert done.exit_code == 0, done.output
    assert "asked exactly three apples, saw four apples" in done.stdout
    assert "4 apples (targeted)" in done.stdout
    assert "1 *" in done.stdout


def test_the_table_has_a_negatives_score_where_a_ranker_gives_one(
    viewer: FakeViewer, tmp_path: Path
) -> None:
    done = npc("correct", PROMPT, "--ranker", "salient", "--out", str(tmp_path / "out"))
    assert done.exit_code == 0, done.output
    assert findall(r"4 apples \(targeted, [+-]\d\.\d{3}\)", done.stdout)


def test_the_chosen_pictures_faults_are_said_too(viewer: FakeViewer, tmp_path: Path) -> None:
    viewer.sees = ["four apples", "five apples"]
    done = npc("correct", PROMPT, "-k", "1", "--out", str(tmp_path / "out"))
    assert done.exit_code == 3
    assert "saw five apples" in done.stdout


def test_a_redrawing_without_a_negative_is_said_to_be_a_new_seed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    defaults = replace(FAKE_DEFAULTS, fresh_from=2, seeds_suffice=frozenset({"count"}))
    looking = FakeViewer(["four apples", "five apples", "six apples"])
    attempts = session(looking, defaults).correct(Request(PROMPT, candidates=2))
    assert len([*attempts]) == 3
    show_result(attempts.result, tmp_path)
    assert capsys.readouterr().out.count("none, a new seed") == 1


@pytest.mark.parametrize(
    "parts", [("three", "red", "apples"), ("\u201cthree", "red", "apples\u201d")]
)
def test_a_prompt_without_quotes_is_refused_with_what_to_type(
    parts: tuple[str, ...], viewer: FakeViewer, tmp_path: Path
) -> None:
    done = npc("correct", *parts, "--out", str(tmp_path / "out"))
    assert done.exit_code == 2
    assert 'in 3 parts; put all of it in straight quotes: npc correct "three red apples".' in (
        done.stderr
    )
    assert not viewer.asked
    assert not (tmp_path / "out").exists()


def test_a_folder_is_refused_continued_or_overwritten(viewer: FakeViewer, tmp_path: Path) -> None:
    out = ("--out", str(tmp_path / "out"))
    assert npc("correct", PROMPT, *out).exit_code == 0
    again = npc("correct", PROMPT, *out)
    assert (again.exit_code, again.stderr.count("\n")) == (2, 1)
    assert "finished" in again.stderr
    assert "--overwrite" in again.stderr
    assert "another request" in npc("correct", "two bananas", *out).stderr
    assert npc("correct", "two bananas", *out, "--overwrite").exit_code == 0


def test_pictures_are_not_drawn_again_over_a_correction(viewer: FakeViewer, tmp_path: Path) -> None:
    out = tmp_path / "out"
    npc("correct", PROMPT, "--out", str(out))
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    done = npc("redraw", str(out / "best.png"), "--out", str(out))
    assert done.exit_code == 2
    assert "holds a correction; choose another folder with --out." in done.stderr
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_a_refused_request_leaves_no_folder(viewer: FakeViewer, tmp_path: Path) -> None:
    for arguments in (("three lamps",), (PROMPT, "--looks", "99"), (" " * 300_000,)):
        done = npc("correct", *arguments, "--out", str(tmp_path / "out"))
        assert done.exit_code == 2
        assert len(done.stderr) < 600
    assert not (tmp_path / "out").exists()


def test_a_request_that_failed_does_not_block_the_folder(
    viewer: FakeViewer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from npcorrect.errors import ModelError

    out = ("--out", str(tmp_path / "out"))
    with monkeypatch.context() as patched:

        def fails(settings: SessionSettings) -> Any:
            raise ModelError("There is no such device.")

        patched.setattr("npcorrect.session.open_session", fails)
        assert npc("correct", PROMPT, *out).exit_code == 2
    assert npc("correct", "two bananas", *out).exit_code == 0


def test_a_file_of_prompts(viewer: FakeViewer, tmp_path: Path) -> None:
    file, out = tmp_path / "prompts.txt", tmp_path / "out"
    file.write_text(f'{PROMPT}\n{{"prompt": "two green bananas", "seed": 4}}\n')
    viewer.sees = ["", "four apples"]
    many = ("correct", "--prompts", str(file), "-k", "1", "--out", str(out))
    done = npc(*many)
    assert done.exit_code == 3, done.output
    assert "2 of 2 prompts: 1 accepted, 1 not accepted" in done.stdout
    again = npc(*many, "--json")
    assert [json.loads(line)["seed"] for line in again.stdout.splitlines()] == [0, 4]


def test_prompts_come_from_standard_input(viewer: FakeViewer, tmp_path: Path) -> None:
    done = npc("correct", "--prompts", "-", "--out", str(tmp_path / "out"), input="two bananas\n")
    assert done.exit_code == 0, done.output
    assert (tmp_path / "out" / "0001-two-bananas" / "best.png").is_file()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "Give a PROMPT"),
        (("x", "--prompts", "p"), "leave PROMPT out"),
        (("--original", "x.png", "--prompts", "p"), "leave --original (NPC_ORIGINAL) out"),
        (("--prompts", "nowhere"), "'nowhere' cannot be read (there is no such file)"),
        (("--images", "nowhere"), "no folder 'nowhere'"),
        ((PROMPT, "--original", "nowhere"), "no picture 'nowhere'"),
        (("",), "empty"),
        (("three lamps",), "'lamps'"),
        (("three red apples and " * 5 + "one banana",), "twice"),
        (("one banana", "--size", "100"), "100"),
        (("one banana", "-k", "51"), "51"),
        (("one banana", "-k", "-1"), "-1"),
        (("one banana", "--looks", "24"), "0 to 6"),
        (("one banana", "--strength", "0"), "'strength' is 0"),
        (("one banana", "--rewinds", "-1"), "'rewinds' is -1"),
        (("one banana", "--batch", "0"), "'batch' is 0"),
        (("one banana", "-n", "99"), "99"),
        (("one banana", "-n", "x"), "'x'"),
        (("one banana", "--rule", "magic"), "'magic'"),
        (("one banana", "--steps", "0"), "0"),
        (("one banana", "--steps", "9" * 400), "steps"),
        (("one banana", "--out", "/proc/nowhere"), "/proc/nowhere"),
        (("one banana", "--out", ""), "it is no path"),
        (("one banana", "--out", " "), "it is no path"),
        (("one banana", "--original", ""), "it is no path"),
        (("--prompts", ""), "it is no path"),
        (("--images", "\0"), "it is no path"),
    ],
)
def test_bad_input_is_one_sentence(
    arguments: tuple[str, ...], says: str, viewer: FakeViewer, tmp_path: Path
) -> None:
    where = () if "--out" in arguments else ("--out", str(tmp_path / "out"))
    done = npc("correct", *arguments, *where)
    assert done.exit_code == 2
    assert says in done.stderr
    assert "Traceback" not in done.output


def test_settings_come_from_flags_then_environment_then_the_file(
    viewer: FakeViewer, tmp_path: Path
) -> None:
    file = settings_file(tmp_path, "[correct]\nseed = 5\ncandidates = 0\nsteps = 2\n")

    def seed(name: str, *flags: str, **environment: str) -> int:
        base = ("--config", file, "correct", "one banana", "--json", "--out", str(tmp_path / name))
        record = json.loads(npc(*base, *flags, env=environment).stdout)
        assert len(record["attempts"]) == 1
        return int(record["request"]["seed"])

    assert seed("a") == 5
    assert seed("b", NPC_SEED="6") == 6
    assert seed("c", "--seed", "7", NPC_SEED="6") == 7


def settings_file(folder: Path, text: str, mark: bytes = b"") -> str:
    (folder / "npc.toml").write_bytes(mark + text.encode())
    return str(folder / "npc.toml")


def test_keys_of_the_settings_file_are_the_flags_own_names(
    viewer: FakeViewer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    text = (
        '[correct]\njson = true\nnegative-scale = 2.5\nkeep = true\nlora = []\n'
        'rule = "extra"\nout = "~/pics"\ncandidates = 1\n'
    )  # fmt: skip
    file = settings_file(tmp_path, text, b"\xef\xbb\xbf")
    done = npc("--config", file, "correct", PROMPT)
    assert done.exit_code == 0, done.stderr
    request = json.loads(done.stdout)["request"]
    assert (request["negative_scale"], request["fresh"], request["candidates"]) == (2.5, False, 1)
    assert (tmp_path / "pics" / "result.json").is_file()
    underscored = settings_file(
        tmp_path, '[correct]\nkeep = true\nrule = "extra"\nnegative_scale = 1.5\n'
    )
    done = npc("--config", underscored, "correct", "two bananas", "--json", "--out", "~/two")
    assert json.loads(done.stdout)["request"]["negative_scale"] == 1.5


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("seed =", "cannot be read"),
        ("[draw]", "'draw'"),
        ("[correct]\nsed = 1", "'sed'; did you mean seed"),
        ("[correct]\nseed = [1]", "'seed' is [1]"),
        ("[correct]\nseed = true", "'seed' is True"),
        ("[correct]\nfresh = true\nkeep = true", "'keep' sets 'fresh' again"),
        ("[correct]\nnegative-scale = 1\nnegative_scale = 2", "sets 'negative_scale' again"),
        ("correct = 3", "it is a table"),
        ('vlm = "openai:x"', "outside of a table"),
        ("[vlm]\nkeys = 3", "[vlm] table"),
        ("a = " + "[" * 5000, "cannot be read"),
        ("[correct]\nseed = " + "1" * 5000, "cannot be read"),
        ('[correct]\nout = ""', "it is no path"),
        ("[correct]\nout = 5", "it is no path"),
    ],
)
def test_a_wrong_settings_file_is_refused(
    text: str, says: str, viewer: FakeViewer, tmp_path: Path
) -> None:
    file = settings_file(tmp_path, text)
    done = npc("--config", file, "correct", PROMPT, "--out", str(tmp_path / "out"))
    assert done.exit_code == 2, done.output
    assert says in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("value", ["", "  "])
def test_an_empty_variable_is_refused(value: str, viewer: FakeViewer, tmp_path: Path) -> None:
    done = npc("correct", PROMPT, env={"NPC_BUDGET": value}, catch_exceptions=False)
    assert done.exit_code == 2
    assert "NPC_BUDGET is empty" in done.stderr


@pytest.mark.parametrize("prompt", [r"\[/\]", "$$", ":heart:", "a\nb", "x\ud800", "\x1b[2J"])
def test_awkward_prompts_are_drawn_or_refused(
    prompt: str, viewer: FakeViewer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def anything(prompt: str) -> None:
        """Everything can be drawn."""

    from dataclasses import replace

    from npcorrect.mini import family

    free = replace(family.FAMILY, check_prompt=anything)
    monkeypatch.setattr(family, "FAMILY", free)
    done = npc("correct", prompt, "--out", str(tmp_path / "out"))
    assert done.exit_code == (2 if "\ud800" in prompt else 0), done.output
    assert "Traceback" not in done.output
    assert "\x1b[2J" not in done.output
    assert "[/" not in prompt or prompt in done.stdout


@pytest.mark.parametrize(
    "option",
    [("--shard", "1/1"), ("--shard", "2/4"), ("--workers", "2"), ("--threads", "2"),
     ("--ray-address", "auto")],
)  # fmt: skip
def test_options_of_many_prompts_are_refused_for_one(
    option: tuple[str, str], viewer: FakeViewer, tmp_path: Path
) -> None:
    done = npc("correct", PROMPT, *option, "--out", str(tmp_path / "out"))
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    assert done.stderr.startswith(f"npc: {option[0]} ")
    assert "--prompts" in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--workers", "2", "--budget", "9 calls"), "leave out --workers or --budget"),
        (("--threads", "2"), "--workers"),
    ],
)
def test_what_workers_cannot_do_is_refused(
    options: tuple[str, ...], says: str, viewer: FakeViewer, tmp_path: Path
) -> None:
    (tmp_path / "prompts.txt").write_text(PROMPT)
    many = ("correct", "--prompts", str(tmp_path / "prompts.txt"), "--out", str(tmp_path / "out"))
    done = npc(*many, *options)
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    assert says in done.stderr
    assert not (tmp_path / "out").exists()


def test_workers_without_ray_are_refused(
    viewer: FakeViewer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("npcorrect.workers.find_spec", lambda name: None)
    (tmp_path / "prompts.txt").write_text(PROMPT)
    many = ("correct", "--prompts", str(tmp_path / "prompts.txt"), "--out", str(tmp_path / "out"))
    done = npc(*many, "--workers", "2")
    assert done.exit_code == 2
    assert "npcorrect[ray]" in done.stderr
    done = npc(*many, "--ray-address", "")
    assert done.exit_code == 2
    assert "--ray-address is empty" in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('steps = "many"', "'steps' is 'many'"),
        ("steps = 2.5", "'steps' is 2.5"),
        ('scale = "high"', "'scale' is 'high'"),
        ("out = 3", "'out' is 3"),
        ('workers = "two"', "'workers' is 'two'"),
    ],
)
def test_a_settings_file_is_blamed_for_its_own_values(
    line: str, says: str, viewer: FakeViewer, tmp_path: Path
) -> None:
    (tmp_path / "npc.toml").write_text(f"[correct]\n{line}\n")
    done = npc("--config", str(tmp_path / "npc.toml"), "correct", PROMPT)
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    assert says in done.stderr
    assert "table [correct]" in done.stderr
    assert "NPC_" not in done.stderr


@pytest.mark.parametrize(
    ("variable", "near"),
    [
        ("NPC_STEPPS", "NPC_STEPS"),
        ("NPC_VML", "NPC_VLM"),
        ("NPC_SERVE_TOKN", "NPC_SERVE_TOKEN"),
        ("NPC_VLM_KEYS", "NPC_VLM_KEY"),
    ],
)
def test_a_misspelt_variable_is_refused(
    variable: str, near: str, viewer: FakeViewer, tmp_path: Path
) -> None:
    done = npc("correct", PROMPT, "--out", str(tmp_path / "out"), env={variable: "3"})
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    assert variable in done.stderr
    assert near in done.stderr
    assert not (tmp_path / "out").exists()


def test_variables_that_the_documentation_names_are_known() -> None:
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    names = {name for page in pages for name in findall(r"NPC_[A-Z_]+", page.read_text("utf-8"))}
    assert "NPC_MODEL_KEY" in names
    done = npc("models", "show", "mini", env=dict.fromkeys(names, "1"))
    assert (done.exit_code, done.stderr) == (0, "")


def test_another_programs_variable_is_only_spoken_of(viewer: FakeViewer, tmp_path: Path) -> None:
    out = ("--out", str(tmp_path / "out"))
    done = npc("correct", PROMPT, *out, env={"NPC_ZZZQQQ": "3"})
    assert done.exit_code == 0
    assert "NPC_ZZZQQQ" in done.stderr


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--device", "cuda"), "'cuda' cannot be used"),
        (("--vlm", "local:./nowhere"), "'./nowhere'"),
        (("--rule", "paper", "--negative-scale", "2"), "has no effect"),
        (("--votes", "3"), "'votes' is 3"),
        (("--budget", "3 calls"), "'budget' is '3 calls'"),
    ],
)
def test_what_is_missing_or_idle_leaves_no_folder(
    options: tuple[str, ...], says: str, viewer: FakeViewer, tmp_path: Path
) -> None:
    (tmp_path / "prompts.txt").write_text(PROMPT)
    for what in ((PROMPT,), ("--prompts", str(tmp_path / "prompts.txt"))):
        done = npc("correct", *what, *options, "--out", str(tmp_path / "out"))
        assert (done.exit_code, done.stderr.strip().count("\n")) == (2, 0)
        assert says in done.stderr
        assert not (tmp_path / "out").exists()
