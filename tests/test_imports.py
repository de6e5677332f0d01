"""Who may import whom, and by which means processes may talk: rules that no single file shows.

Imports are read from the source of every module; what a process really loads is asked of fresh
interpreters. Imports for type checkers alone do not count.
"""

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for package in ("gateway", "backend")
    for path in sorted((ROOT / package).rglob("*.py"))
}
WITHOUT_TORCH = (
    "block_pool config end_tokens exchange free_engine gguf_config gguf_header grammar "
    "hf_config hf_directory lead memory model_file prefix_cache rank replica roster rows scheduler "
    "sequence settings shard step"
).split()
CONTRACTS = {
    f"backend.{name}"
    for name in "wire settings config model_file memory gguf_header end_tokens".split()
}
EXCEPTIONS = {
    "gateway.supervisor": {"backend.replica"},
    "gateway.supervision.life": {"backend.replica"},
    "gateway.supervision.switchboard": {"backend.replica"},
    "gateway.requests.grammar_helper": {"backend.grammar"},
    "gateway.bench.bed": {"backend.replica", "backend.free_engine"},
}
LAYERS_OF_A_MODEL = [
    ("backend.ops", "backend.parallel", "backend.quant"),
    ("backend.layers",),
    ("backend.models",),
]
# Whatever carries objects between processes, or code in data.
OBJECT_CARRIERS = {"pickle", "cloudpickle", "dill", "marshal", "shelve", "xmlrpc"}
PICKLING_NAMES = {"send", "recv", "Queue", "JoinableQueue", "SimpleQueue", "Manager", "Pool"}


@cache
def tree_of(module: str) -> ast.Module:
    return ast.parse(MODULES[module].read_text())


def imports_of(module: str, *, at_top: bool = False) -> set[str]:
    """Full names of the modules that a module imports.

    at_top: only what its own import runs, not what functions import when they are called.
    """
    return set(_imports(tree_of(module), at_top))


def _imports(node: ast.AST, at_top: bool) -> Iterator[str]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0 and child.module, "imports are absolute here"
            names = [f"{child.module}.{alias.name}" for alias in child.names]
            yield from (name if name in MODULES else child.module for name in names)
        elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
            continue
        elif not (at_top and isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef)):
            yield from _imports(child, at_top)


def within(name: str, *packages: str) -> bool:
    """Whether a module is one of `packages` or inside one."""
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def modules_of(*packages: str) -> list[str]:
    return [module for module in MODULES if within(module, *packages)]


def loaded_by(*modules: str) -> set[str]:
    """Import some modules in a fresh interpreter; return everything that is loaded then."""
    program = f"import sys, {', '.join(modules)}; print(*sys.modules)"
    run = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return set(run.stdout.split())


def test_the_rules_see_all_modules() -> None:
    assert {"gateway.app", "backend.rank", "backend.wire.ring", "gateway.bench"} <= MODULES.keys()
    assert "backend.wire.messages" in imports_of("backend.lead")
    assert within("torch.multiprocessing", "torch") and not within("torchvision", "torch")


def test_backend_never_imports_gateway() -> None:
    for module in modules_of("backend"):
        assert not [name for name in imports_of(module) if within(name, "gateway")], module


def test_gateway_takes_from_backend_only_contracts() -> None:
    for module in modules_of("gateway"):
        allowed = CONTRACTS | EXCEPTIONS.get(module, set())
        taken = {name for name in imports_of(module) if within(name, "backend")}
        assert not [name for name in taken if not within(name, *allowed)], module


def test_wire_needs_no_more_than_the_standard_library_msgspec_and_numpy() -> None:
    """setproctitle, too: a child must name itself before it loads anything else."""
    allowed = {*sys.stdlib_module_names, "msgspec", "numpy", "setproctitle"}
    for module in modules_of("backend.wire"):
        for name in imports_of(module):
            assert within(name, "backend.wire") or name.partition(".")[0] in allowed, (module, name)


def test_models_use_layers_use_ops_and_never_back() -> None:
    for level, packages in enumerate(LAYERS_OF_A_MODEL):
        above = [name for names in LAYERS_OF_A_MODEL[level + 1 :] for name in names]
        for module in modules_of(*packages):
            names = imports_of(module)
            assert not [name for name in names if above and within(name, *above)], module
            assert "backend.settings" not in names, module


@pytest.mark.parametrize("module", ["gateway.supervisor", "gateway.worker"])
def test_gateway_processes_load_neither_torch_nor_transformers(module: str) -> None:
    assert not loaded_by(module) & {"torch", "transformers"}


def test_modules_without_torch_load_none() -> None:
    """One interpreter for all; if it fails, the imports of each tell which."""
    modules = [f"backend.{name}" for name in WITHOUT_TORCH] + modules_of("backend.wire")
    assert not loaded_by(*modules) & {"torch", "transformers"}


def test_rank_imports_torch_only_inside_functions() -> None:
    assert "torch.multiprocessing" in imports_of("backend.rank")
    assert not [name for name in imports_of("backend.rank", at_top=True) if within(name, "torch")]


def test_transformers_is_imported_only_by_the_tokenizer_conversion() -> None:
    users = [m for m in MODULES if any(within(n, "transformers") for n in imports_of(m))]
    assert users == ["gateway.text.vocab.convert"]


def test_torchs_spawn_context_is_the_standard_librarys() -> None:
    """So replica.py, which takes the latter, spawns as torch.multiprocessing does."""
    import multiprocessing

    import torch.multiprocessing

    ours = multiprocessing.get_context("spawn")
    assert torch.multiprocessing.get_context("spawn") is ours


@pytest.mark.parametrize("module", MODULES)
def test_no_channel_carries_pickled_objects(module: str) -> None:
    """Processes send each other msgpack; multiprocessing spawns them and makes pipes of bytes.

    A Connection's send and recv pickle, send_bytes and recv_bytes do not.
    """
    roots = {name.partition(".")[0] for name in imports_of(module)}
    assert not roots & OBJECT_CARRIERS
    if "multiprocessing" in roots or "torch.multiprocessing" in imports_of(module):
        nodes = ast.walk(tree_of(module))
        names = {node.attr for node in nodes if isinstance(node, ast.Attribute)}
        assert not names & PICKLING_NAMES or module == "backend.rank"


def test_rank_takes_no_more_from_torch_multiprocessing_than_its_import() -> None:
    """Its `send` is that of the control line; torch's reducers are installed by the import."""
    nodes = ast.walk(tree_of("backend.rank"))
    chains = {ast.unparse(node) for node in nodes if isinstance(node, ast.Attribute)}
    assert not {chain for chain in chains if chain.startswith("torch.multiprocessing.")}
