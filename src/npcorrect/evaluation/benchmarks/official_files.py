"""The official files of other people's benchmarks: where they come from, pinned by their hashes.

None of them is part of this package.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from urllib.parse import quote


@dataclass(frozen=True)
class OfficialFile:
    """One file, pinned.

    ``name`` is its path below the folder of official files, ``aliases`` are others that it may
    have. ``hash`` is its SHA-256, or, in 40 digits, the name that git gives its content; empty
    where the commit in its address alone pins it, and the benchmark itself checks what it holds.
    """

    name: str
    url: str
    hash: str
    licence: str
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Repository:
    """A repository at one commit, and the folder below ours that its files lie in."""

    name: str
    commit: str
    licence: str
    folder: str = ""

    def __call__(
        self, path: str, digest: str, subfolder: str = "", aliases: tuple[str, ...] = ()
    ) -> OfficialFile:
        url = f"https://raw.githubusercontent.com/{self.name}/{self.commit}/{quote(path)}"
        name = str(PurePosixPath(self.folder, subfolder, PurePosixPath(path).name))
        return OfficialFile(name, url, digest, self.licence, aliases)


def _all_of(pairs: Mapping[str, tuple[OfficialFile, OfficialFile]]) -> tuple[OfficialFile, ...]:
    return tuple(file for pair in pairs.values() for file in pair)


_NO_LICENCE = "without a licence: all rights are reserved"
_echo4o = _Repository("yejy53/Echo-4o", "28f36d76558e5f53b9deceda78bf025ef0d0ea24", "Apache-2.0")
_geneval2 = _Repository(
    "facebookresearch/GenEval2",
    "a6e82d2289e8d418f27f0adee77908b07060eea3",
    "CC BY-NC 4.0: not for commercial use",
)
_geneval = _Repository(
    "djghosh13/geneval", "af4902f24d3ca90ebbb446dd9891a59e0f82725f", "MIT", "geneval"
)
_dsg = _Repository("j-min/DSG", "7330119a39f76ff90e619a8bd3ff321e71aa986b", "Apache-2.0")
_ella = _Repository("TencentQQGYLab/ELLA", "3c228f1dc6c4d3cad0a47493816151a419f14db3", "Apache-2.0")
_oneig = _Repository(
    "OneIG-Bench/OneIG-Benchmark", "41b49831e79e6dde5323618c164da1c4cf0f699d", _NO_LICENCE, "oneig"
)
_vsf = _Repository("weathon/VSF", "0dcf43edb3742d022d5e8f5a1d52a066d9917e8b", "MIT", "neggenbench")
_tiif = _Repository(
    "A113N-W3I/TIIF-Bench", "3aae7504d2546516eaec2fea82fde9ae445dfea3", _NO_LICENCE, "tiif"
)

GENEVAL_PP = _echo4o(
    "test_scripts/Geneval++.jsonl",
    "9c1216a3f6fe2d99e4ffd63f3a6dba71f3dd7ab30a7c09cb41f03629b35d3e8f",
    aliases=("geneval_pp.jsonl",),
)
IMAGINE = _echo4o(
    "test_scripts/Imagine.jsonl",
    "e22e33dd5e2722b9fedfb7ecddeb56841ec6ea93b3f0246a04d8dd374ab5a19e",
    aliases=("imagine.jsonl",),
)
GENEVAL2 = _geneval2(
    "geneval2_data.jsonl", "09233adbc9f877fba205f1a20efa4a8640e7e62a91dfd55893562bed8a928e43"
)
GENEVAL = _geneval(
    "prompts/evaluation_metadata.jsonl",
    "5c48e0813e812e3c373fa5c8ed07a8f0a483be30272b4427b0559c8048e67c13",
)
DSG = _dsg(
    "dsg/data/dsg-1k-anns.csv", "b7ce06ea8a0478ccfd8fba105ecd26d7d301eb99d5c412987546c4cc8e08917a"
)
NEGGENBENCH = _vsf("prompts/test_prompts.json.new", "")
DPG = _ella("dpg_bench/dpg_bench.csv", "98457fc9901943f51ff9a30367250fc292533bed")
ONEIG_PROMPTS = _oneig(
    "OneIG-Bench.csv", "e06c65b32252d82406fb1a27f13022b38d432c899a2486eb49ab0c100f83b3e1"
)
ONEIG_QUESTIONS = {
    "anime": _oneig(
        "scripts/alignment/Q_D/anime.json",
        "21ea3d0360e69d72bc5f4cbb93b203d293d16f5c2f626634a52b990119e0a6e3",
    ),
    "human": _oneig(
        "scripts/alignment/Q_D/human.json",
        "0e92b25c6bc4091cac05fa0f4269b3b37465a7cd43ca2768f55f56149cdbf13b",
    ),
    "object": _oneig(
        "scripts/alignment/Q_D/object.json",
        "350dfdf72c2da143c78a7544d4c554faf6698c1ba4fcd27c7a9cc9199d487e0e",
    ),
}
"""The questions of each class of prompts that is judged for alignment."""
_TIIF_HASHES = {
    "test": {
        "negation": (
            "9e273214f0a0b1b76bbb783951f7518ba91ef383e39c05bfb7cd5ad7475d4418",
            "13abc67edf65b2ddb38a8adef75c9b9275f58bab16de0be8901562498033ca8e",
        ),
        "negation+2d": (
            "efc146904a8addc4418057e0ac99fca3247a61b36da509fbbe1e94f5378072a7",
            "80c5e91f8fc50c51e0130e71e8d4fe7a86da60fc9c339abe8aa12b38a10fffa5",
        ),
        "negation+3d": (
            "9e339d278fe571393c462f746d04521cf2c04bb6c0a4c00d6343ae7615111abc",
            "603a9bd41fbee5e76ff541d6ad944b77c3e12320d728e4bc0e6282d8d112fb3d",
        ),
        "negation+color": (
            "c1901823bf31356d8126272152daf5d2c4cf41822d80310270f1da59bb1d3b6d",
            "9c668e737569aa63cd8787cae9dd963bcd0edd94adad23872d2dfcfbae5f5d9e",
        ),
        "negation+texture": (
            "43227f121134527fe1831b452b14d58c4b9fb48f5f76d7bf110d39e95affe4ec",
            "21837aa04c995cc4cd41dd4b56b16c9dcb8a009f48a80d8179116a0be3826af1",
        ),
    },
    "testmini": {
        "negation": (
            "bde68e2e278138538a13951f06aa6e0dad2530081233d96937ddcf5f98f19a75",
            "0fd93f66f6314118ba79bafebc216fc1f1e5fcaebe33b320257b69179ae49086",
        ),
        "negation+2d": (
            "bb47a6e48c2f4c866b178bbe93b62b3218e74fbe3ac2f398ad504d67922716dd",
            "e30606ce5199d5676da32c2629a958bef6aae7798a9c027ac572acc78078dbdc",
        ),
        "negation+3d": (
            "c2b3528a1d2f3d21646c5cc83c2c53fcadd74ec8dd97cf0e5003cc401e946942",
            "42d84a4ea407a2c062f6c101fe6903561e7ae13e39a77eb7ef6770683f2075d4",
        ),
        "negation+color": (
            "63ee6590bfa79a3fd7b280f799234080fa71cab6daf6d81cd624e37be026dacf",
            "89c1fa90498b5a18d3db5efde72932ad3c45ba268bb4eac57aee12484ef8fba6",
        ),
        "negation+texture": (
            "4a95307274f97e362b0cf13fdf4b4c95f924aa98604cd689d321f8cad4d2f3a0",
            "49d71c35e46adccb5dedfb6830b5eade507f7ae119a92b44514f5410b4838df3",
        ),
    },
}
TIIF_NEGATION = {
    subset: {
        kind: (
            _tiif(f"data/{subset}_prompts/{kind}_prompts.jsonl", prompts, subset),
            _tiif(f"data/{subset}_eval_prompts/{kind}_eval_prompts.jsonl", questions, subset),
        )
        for kind, (prompts, questions) in kinds.items()
    }
    for subset, kinds in _TIIF_HASHES.items()
}
"""The prompts and the questions of each type of negation, in each subset."""
FILES: dict[str, tuple[OfficialFile, ...]] = {
    "geneval++": (GENEVAL_PP,),
    "imagine": (IMAGINE,),
    "geneval2": (GENEVAL2,),
    "geneval": (GENEVAL,),
    "dsg-1k": (DSG,),
    "dpg": (DPG,),
    "neggenbench": (NEGGENBENCH,),
    "oneig": (ONEIG_PROMPTS, *ONEIG_QUESTIONS.values()),
    "tiif-negation": _all_of(TIIF_NEGATION["test"]),
    "tiif-negation-mini": _all_of(TIIF_NEGATION["testmini"]),
}
"""The official files of each benchmark."""
