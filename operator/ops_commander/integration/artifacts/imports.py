"""Which imports of a pickle only rebuild numbers, and which run something."""

from __future__ import annotations

import _compat_pickle
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Final

from ops_commander.integration.artifacts.findings import Trust


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_CONTAINERS: Final = {
    "builtins": (
        "bool int float complex str bytes bytearray list tuple dict set frozenset slice range object NotImplemented"
        " Ellipsis"
    ),
    "collections": "OrderedDict defaultdict deque Counter",
    "datetime": "date datetime time timedelta timezone",
    "decimal": "Decimal",
    "fractions": "Fraction",
    "uuid": "UUID",
    "copyreg": "_reconstructor",
    "_codecs": "encode",
}
_ARRAYS: Final = {
    "numpy": (
        "ndarray dtype matrix bool_ int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 float32 float64"
        " longdouble complex64 complex128 str_ bytes_ datetime64 timedelta64"
    ),
    "numpy.core.multiarray": "_reconstruct scalar",
    "numpy._core.multiarray": "_reconstruct scalar",
    "numpy.core.numeric": "_frombuffer",
    "numpy._core.numeric": "_frombuffer",
    "numpy.dtypes": (
        "BoolDType Int8DType Int16DType Int32DType Int64DType UInt8DType UInt16DType UInt32DType UInt64DType"
        " Float16DType Float32DType Float64DType Complex64DType Complex128DType StrDType BytesDType ObjectDType"
    ),
    "joblib.numpy_pickle": "NumpyArrayWrapper",
}
_TORCH: Final = {
    "torch._utils": (
        "_rebuild_tensor _rebuild_tensor_v2 _rebuild_tensor_v3 _rebuild_parameter _rebuild_parameter_with_state"
        " _rebuild_qtensor _rebuild_sparse_tensor _rebuild_meta_tensor_no_storage _rebuild_nested_tensor"
    ),
    "torch._tensor": "_rebuild_from_type_v2",
    "torch.nn.parameter": "Parameter",
    "torch.storage": "UntypedStorage TypedStorage",
    "torch.serialization": "_get_layout",
    "torch": (
        "Size Tensor device dtype strided sparse_coo float16 float32 float64 bfloat16 half float double int8"
        " int16 int32 int64 uint8 uint16 uint32 uint64 short int long bool complex32 complex64 complex128"
        " float8_e4m3fn float8_e5m2 qint8 quint8 qint32 FloatStorage DoubleStorage HalfStorage BFloat16Storage"
        " ByteStorage CharStorage ShortStorage IntStorage LongStorage BoolStorage ComplexFloatStorage"
        " ComplexDoubleStorage UntypedStorage"
    ),
}
ALLOWED: Final = frozenset(
    (module, name)
    for table in (_CONTAINERS, _ARRAYS, _TORCH)
    for module, names in table.items()
    for name in names.split()
)
"""Exact pairs: a whole module is never allowed, for those of numpy and torch hold functions that run code."""

_MODULES: Final = _words(
    "os posix nt ntpath posixpath subprocess _posixsubprocess sys socket _socket ssl select shutil runpy"
    " webbrowser importlib _frozen_importlib _imp imp pkgutil pty tty commands popen2 ctypes _ctypes cffi"
    " _cffi_backend code codeop bdb pdb cProfile profile trace timeit doctest unittest test idlelib lib2to3"
    " asyncio multiprocessing _multiprocessing concurrent signal pickle _pickle cPickle pickletools dill"
    " cloudpickle shelve marshal types inspect ast dis symtable http urllib urllib2 requests httpx aiohttp ftplib"
    " smtplib poplib imaplib telnetlib nntplib socketserver xmlrpc wsgiref tempfile fileinput glob pip setuptools"
    " distutils ensurepip venv zipimport zipapp pydoc pydoc_data sqlite3 gc atexit faulthandler readline"
    " rlcompleter linecache sysconfig site sitecustomize platform antigravity turtle tkinter curses logging cgi"
    " cgitb crypt mmap fcntl msvcrt winreg _winapi _thread threading io _io _pyio builtins __builtin__ nturl2path"
    " getpass mailcap paramiko fabric psutil sh pexpect"
)
"""Top-level modules of which nothing is harmless, but for the pairs that are allowed."""
_NAMES: Final = _words(
    "eval exec execfile compile open __import__ getattr setattr delattr globals locals vars system popen spawn"
    " spawnl spawnv call check_call check_output Popen run runcode runstring run_module run_path run_code"
    " import_module load_module exec_module attrgetter methodcaller __getattribute__ __globals__ __builtins__"
    " __subclasses__ __reduce__ __reduce_ex__ __class__ __dict__ __code__ breakpoint _load_from_bytes memmap"
    " fromfile tofile savetxt genfromtxt loadtxt read_pickle"
)
"""Names that run, read or write something, whatever module they are reached through."""
_PREFIXES: Final = (
    "numpy.testing",
    "numpy.f2py",
    "numpy.distutils",
    "numpy.load",
    "numpy.save",
    "numpy.lib.npyio",
    "numpy.lib.format",
    "numpy.ctypeslib",
    "torch.hub",
    "torch.load",
    "torch.save",
    "torch.jit",
    "torch.package",
    "torch.utils",
    "torch._inductor",
    "torch._dynamo",
    "torch._C",
    "torch.multiprocessing",
    "torch.distributed",
    "torch.fx",
    "torch.ops",
    "torch.classes",
    "torch.storage._load_from_bytes",
    "torch.serialization",
    "torch.cuda._lazy",
    "joblib.load",
    "joblib.dump",
    "joblib.numpy_pickle.load",
    "joblib.externals",
    "joblib.parallel",
    "pandas.io",
    "pandas.eval",
    "pandas.core.computation",
    "tensorflow.io",
    "tensorflow.python",
    "tensorflow.py_function",
    "keras.utils.get_file",
    "transformers.dynamic_module_utils",
    "operator.attrgetter",
    "operator.methodcaller",
    "operator.call",
    "_operator.attrgetter",
    "_operator.methodcaller",
    "_operator.call",
    "functools.reduce",
    "_functools.reduce",
    "copyreg.add_extension",
)


def trust_of(module: str, name: str) -> Trust:
    """By what the pickle says and by what an old name stands for in Python 3; the worse of the two."""
    pairs = {(module, name), _translated(module, name)}
    if pairs <= ALLOWED or (_translated(module, name) in ALLOWED and module in ("__builtin__", "copy_reg")):
        return Trust.ALLOWED
    return Trust.DANGEROUS if any(_is_dangerous(*pair) for pair in pairs) else Trust.SUSPICIOUS


def is_listed(module: str, name: str, patterns: Sequence[str]) -> bool:
    """Whether somebody has vouched for it: `sklearn.*`."""
    return any(fnmatchcase(f"{module}.{name}", pattern) for pattern in patterns)


def _translated(module: str, name: str) -> tuple[str, str]:
    if (module, name) in _compat_pickle.NAME_MAPPING:
        return _compat_pickle.NAME_MAPPING[module, name]
    return _compat_pickle.IMPORT_MAPPING.get(module, module), name


def _is_dangerous(module: str, name: str) -> bool:
    """Any part may be the way in: `torch.serialization` has `os`, and a dotted name walks there."""
    full = f"{module}.{name}"
    parts = full.split(".")
    if parts[0] in _MODULES or any(part in _NAMES for part in name.split(".")):
        return True
    # A module reached as an attribute of another one is the same module.
    if any(part in _MODULES for part in name.split(".")[:-1]) or name in _MODULES:
        return True
    return any(full == prefix or full.startswith(f"{prefix}.") for prefix in _PREFIXES)
