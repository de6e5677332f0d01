"""Who may import whom, and by which means processes may talk: rules that no single file shows.

Imports are read from the source of every module, those for type checkers and those inside functions
included; what a process really loads is asked of fresh interpreters.
"""

import ast
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for package in ("gateway", "backend")
    for path in sorted((ROOT / package).rglob("*.py"))
}

# The backend's rooms -> the rooms they may import, from the ground up; backend/README.md shows the
# same table. A room is a package or a module directly under backend/.
ROOMS = {
    "wire": "",
    "config": "",
    "settings": "",
    "quant": "config",
    "native": "",
    "step": "wire",
    "fault_injection": "wire",
    "distributed": "wire",
    "placement": "config settings quant",
    "weights": "config quant",
    "scheduler": "config step wire",
    "ops": "config placement native step",
    "structured_output": "scheduler step wire fault_injection",
    "sampling": "ops distributed step wire fault_injection",
    "linear": "ops quant native",
    "layers": "linear ops quant weights distributed placement config",
    "models": "layers linear ops quant weights distributed placement config",
    "engine": (
        "models layers linear ops quant weights sampling distributed placement config native "
        "settings step wire fault_injection"
    ),
    "ranks": (
        "engine models layers linear structured_output sampling scheduler ops weights placement "
        "distributed fault_injection step native quant settings config wire"
    ),
    "measurement": (
        "engine models layers linear ops quant sampling scheduler placement distributed step "
        "native settings config wire"
    ),
}
WITHOUT_TORCH = (
    "wire config settings native step placement scheduler structured_output fault_injection ranks"
).split()
# What the gateway takes from the backend: everywhere, and where else.
CONTRACTS = {f"backend.{room}" for room in ("wire", "settings", "config", "placement")}
EXCEPTIONS = {
    "gateway.start": {"backend.ranks.replica"},
    "gateway.supervisor": {"backend.ranks.replica"},
    "gateway.supervision.incarnation": {"backend.ranks.replica"},
    "gateway.supervision.local_incarnation": {"backend.ranks.local_replica"},
    "gateway.nodes.agent": {"backend.ranks.replica"},
    "gateway.commands.config": {"backend.native", "backend.native.level"},
    "gateway.commands.calibrate": {"backend.native", "backend.native.level"},
    "gateway.commands.tune": {"backend.native"},
    "gateway.tuning.predictions": {"backend.native", "backend.quant.kept_weights"},
    "gateway.sandbox.grammar_process": {
        f"backend.structured_output.{module}"
        for module in ("grammar", "json_schema", "schema_loosening")
    },
    "gateway.answers.repeated_names": {"backend.structured_output.json_schema"},
    "gateway.bench.harness": {"backend.ranks.mock_lead"},
    "gateway.planning.devices": {"backend.native"},
    "gateway.planning.serving": {"backend.native", "backend.quant.kept_weights"},
    "gateway.planning.weight_table": {
        f"backend.quant.{module}" for module in ("kept_weights", "weight_format")
    },
}
# The gateway's rooms by floor, from the ground up: each may import the rooms of lower floors only.
# A room is a package, or a module that stands directly under gateway/.
FLOORS = [
    floor.split()
    for floor in (
        "answer_events default_model errors events foreign_settings group_names http1 "
        "open_exchanges page procfs sampling_defaults sizes tenant",
        "options",
        "client_key connection hub model_facts pool schema settings takeoff_variables",
        "description layout notations planning setting_sources telemetry text",
        "dummy_model exchange_context notices sandbox terminal top",
        "security supervision",
        "nodes",
        "service supervisor",
        "http_server requests service_factory start",
        "answers",
        "dialects",
        "endpoints",
        "app",
        "worker",
        "bench",
        "tuning",
        "commands",
        "cli",
        "__main__",
    )
]
# Whatever carries objects between processes, or code in data.
OBJECT_CARRIERS = {"pickle", "cloudpickle", "dill", "marshal", "shelve", "xmlrpc"}
# In quotation marks.
NAME_OF_CLASS = re.compile(r"""["']((?:gateway|backend)[\w.]*):[A-Z]\w*["']""")
PICKLING_NAMES = {"send", "recv", "Queue", "JoinableQueue", "SimpleQueue", "Manager", "Pool"}


def tree_of(module: str) -> ast.Module:
    return ast.parse(MODULES[module].read_text())


def imports_of(module: str, *, at_top: bool = False) -> frozenset[str]:
    """Full names of the modules that a module imports.

    at_top: only what its own import runs, not what functions import when they are called.
    """
    return _both_imports(module)[at_top]


@cache
def _both_imports(module: str) -> tuple[frozenset[str], frozenset[str]]:
    """Return all imports of a module, and those that its own import runs."""
    tree = tree_of(module)
    anywhere = [*_imports(tree, at_top=False), *_imports_in_strings(module)]
    return frozenset(anywhere), frozenset(_imports(tree, at_top=True))


def _imports(node: ast.AST, at_top: bool) -> Iterator[str]:
    for child in _statements(node, at_top):
        if isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0 and child.module, "imports are absolute here"
            names = [f"{child.module}.{alias.name}" for alias in child.names]
            yield from (name if name in MODULES else child.module for name in names)


def _statements(node: ast.AST, at_top: bool) -> Iterator[ast.stmt]:
    """Yield every statement below a node, those inside functions unless `at_top`."""
    for block in ("body", "handlers", "orelse", "finalbody", "cases"):
        for child in getattr(node, block, ()):
            if isinstance(child, ast.stmt):
                yield child
            if not (at_top and isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef)):
                yield from _statements(child, at_top)


def _imports_in_strings(module: str) -> Iterator[str]:
    """Yield what a registry's "module:Class" names: an import that is made later.

    A "module:function" is the entry point of another process.
    """
    for name in NAME_OF_CLASS.findall(MODULES[module].read_text()):
        if name in MODULES:
            yield name


def within(name: str, *packages: str) -> bool:
    """Whether a module is one of `packages` or inside one."""
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def modules_of(*packages: str) -> list[str]:
    return [module for module in MODULES if within(module, *packages)]


def room_of(module: str) -> str:
    """Return the room of a module: "backend.wire.local.ring" -> "wire"."""
    return module.split(".")[1]


def circles(arrows: Mapping[str, Iterable[str]]) -> list[set[str]]:
    """Return the sets of nodes that reach each other (Tarjan's strongly connected components)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[set[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in arrows.get(node, ()):
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            place = stack.index(node)
            component = {*stack[place:]}
            del stack[place:]
            if len(component) > 1:
                found.append(component)

    for node in arrows:
        if node not in index:
            visit(node)
    return found


def loaded_by(*modules: str) -> set[str]:
    """Import some modules in a fresh interpreter; return everything that is loaded then."""
    program = f"import sys, {', '.join(modules)}; print(*sys.modules)"
    run = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return set(run.stdout.split())


def test_rules_see_all_modules() -> None:
    some = {"gateway.app", "backend.ranks.rank", "backend.wire.local.ring", "gateway.bench"}
    assert some <= MODULES.keys()
    assert "backend.wire.messages" in imports_of("backend.ranks.lead")
    assert "backend.linear.native" in imports_of("backend.linear.registry"), "a name in a string"
    assert within("torch.multiprocessing", "torch") and not within("torchvision", "torch")


def test_circles_are_found() -> None:
    assert circles({"a": ["b"], "b": ["c"], "c": ["b"], "d": ["a"]}) == [{"b", "c"}]


def test_backend_never_imports_gateway() -> None:
    for module in modules_of("backend"):
        assert not [name for name in imports_of(module) if within(name, "gateway")], module


def test_backend_rooms_import_what_the_table_allows() -> None:
    assert {room_of(module) for module in modules_of("backend") if "." in module} == ROOMS.keys()
    for module in modules_of("backend"):
        if module == "backend":
            continue
        allowed = {room_of(module), *ROOMS[room_of(module)].split()}
        taken = {room_of(name) for name in imports_of(module) if within(name, "backend")}
        assert taken <= allowed, module


def test_import_table_points_downwards() -> None:
    below: set[str] = set()
    for room, allowed in ROOMS.items():
        assert {*allowed.split()} <= below, f"{room} stands below what it may import"
        below.add(room)


def test_backend_readme_shows_the_import_table() -> None:
    text = (ROOT / "backend/README.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| (.*?) \|", text, re.MULTILINE)
    shown = {room: " ".join(re.findall(r"`(\w+)`", names)) for room, names in rows}
    assert shown == ROOMS
    assert list(shown) == list(ROOMS), "in the same order"


def test_modules_import_in_no_circle() -> None:
    arrows = {module: sorted(imports_of(module) & MODULES.keys()) for module in MODULES}
    assert circles(arrows) == []


def test_gateway_rooms_import_in_no_circle() -> None:
    """A room is a package, or a module that stands directly under gateway/."""
    arrows: dict[str, set[str]] = {}
    for module in modules_of("gateway"):
        room = ".".join(module.split(".")[:2])
        names = {".".join(n.split(".")[:2]) for n in imports_of(module) if within(n, "gateway")}
        arrows.setdefault(room, set()).update(names - {room})
    assert circles(arrows) == []


def test_gateway_rooms_import_only_lower_floors() -> None:
    floor_of = {room: number for number, floor in enumerate(FLOORS) for room in floor}
    modules = [module for module in modules_of("gateway") if "." in module]
    assert {room_of(module) for module in modules} == floor_of.keys()
    for module in modules:
        room = room_of(module)
        taken = {room_of(name) for name in imports_of(module) if within(name, "gateway")} - {room}
        assert not [name for name in taken if floor_of[name] >= floor_of[room]], module


def test_gateway_takes_from_backend_only_contracts() -> None:
    for module in modules_of("gateway"):
        allowed = CONTRACTS | EXCEPTIONS.get(module, set())
        taken = {name for name in imports_of(module) if within(name, "backend")}
        assert not [name for name in taken if not within(name, *allowed)], module


def test_wire_needs_only_the_standard_library_msgspec_and_numpy() -> None:
    """setproctitle, too: a child must name itself before it loads anything else."""
    allowed = {*sys.stdlib_module_names, "msgspec", "numpy", "setproctitle"}
    for module in modules_of("backend.wire"):
        for name in imports_of(module):
            assert within(name, "backend.wire") or name.partition(".")[0] in allowed, (module, name)


@pytest.mark.parametrize("module", ["gateway.start", "gateway.worker"])
def test_gateway_processes_load_neither_torch_nor_transformers(module: str) -> None:
    assert not loaded_by(module) & {"torch", "transformers"}


def test_rooms_without_torch_load_none() -> None:
    """One interpreter for all; if it fails, the imports of each tell which."""
    modules = modules_of(*(f"backend.{room}" for room in WITHOUT_TORCH))
    assert not loaded_by(*modules) & {"torch", "transformers"}


def test_rank_imports_torch_only_inside_functions() -> None:
    assert "torch.multiprocessing" in imports_of("backend.ranks.rank")
    at_top = imports_of("backend.ranks.rank", at_top=True)
    assert not [name for name in at_top if within(name, "torch")]


def test_transformers_is_imported_on_use_by_two_modules() -> None:
    """One converts tokenizers, the other has transformers' modelling code serve; only in ranks."""
    users = [m for m in MODULES if any(within(n, "transformers") for n in imports_of(m))]
    assert users == ["gateway.text.vocab.convert", "backend.models.transformers_backend"]
    at_top = [
        m for m in users if any(within(n, "transformers") for n in imports_of(m, at_top=True))
    ]
    assert not at_top


def test_spawn_context_of_torch_is_the_standard_librarys() -> None:
    """So replica.py, which takes the latter, spawns as torch.multiprocessing does."""
    import multiprocessing

    import torch.multiprocessing

    ours = multiprocessing.get_context("spawn")
    assert torch.multiprocessing.get_context("spawn") is ours


def test_no_channel_carries_pickled_objects() -> None:
    """Processes send each other msgpack; multiprocessing spawns them and makes pipes of bytes.

    A Connection's send and recv pickle, send_bytes and recv_bytes do not.
    """
    for module in MODULES:
        roots = {name.partition(".")[0] for name in imports_of(module)}
        assert not roots & OBJECT_CARRIERS, module
        if "multiprocessing" in roots or "torch.multiprocessing" in imports_of(module):
            nodes = ast.walk(tree_of(module))
            names = {node.attr for node in nodes if isinstance(node, ast.Attribute)}
            assert not names & PICKLING_NAMES or module == "backend.ranks.rank", module


def test_rank_takes_only_the_import_of_torch_multiprocessing() -> None:
    """Its `send` is that of the control line; torch's reducers are installed by the import."""
    nodes = ast.walk(tree_of("backend.ranks.rank"))
    chains = {ast.unparse(node) for node in nodes if isinstance(node, ast.Attribute)}
    assert not {chain for chain in chains if chain.startswith("torch.multiprocessing.")}
