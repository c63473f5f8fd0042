"""A CUDA device for tests on machines without one: `with FakeCuda() as fake:`, or the fixture `fake_cuda`.

Tensors stay in host memory. Their storages carry a mark "this is on cuda:0", so views, `.data` and parameters agree on it. A
dispatch mode checks and passes on the marks in every aten operator, those of the backward pass included; a function mode
answers for what Python asks (`.device`, `.to`, `.numpy`, `device="cuda"`), and `torch.cuda` and `torch.Generator` are patched.
Results are those of the CPU kernels, bit for bit.

What raises on a GPU raises here: operands on two devices (save 0-dim CPU tensors in elementwise operators, and CPU indices of
a cuda tensor), a generator of the other device, a gradient assigned to a tensor of the other device, `numpy()`.

`fake.h2d` and `fake.d2h` count transfers, for each of which the host waits; `fake.events` lists each with the line of ours that
caused it; `fake.reset()` empties them. Filling a tensor in place (`zeros`, `full`, `x.fill_(2.0)`) is none.

What it cannot fake:
- Numbers, speed, memory, streams, a second GPU; kernels that exist on one device only; synchronisations inside a kernel other
  than those whose result decides a shape or a Python value. No GPU has been asked whether the counts are right.
- `non_blocking` copies, pinned memory, inference mode, functional transforms (`torch.func`), compiled code, printed tensors.
- `cuda` random numbers come from CPU generators: `torch.manual_seed` seeds both at once.
- Code inside Python functions that torch itself overrides (`torch.nn.functional`, backward hooks, the backward of an
  `autograd.Function`) sees `.device` as "cpu"; its operators are checked all the same.
- The autograd engine does not see the marks: a gradient of the wrong device passes until an operator meets it.
- The modes hold for the thread that entered them; other threads and processes see CPU tensors.
"""

import os
import sys
import weakref
from collections import defaultdict
from contextlib import ExitStack
from typing import NamedTuple
from unittest import mock

import torch
from torch.optim import Optimizer
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)
MIXED = "Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu!"
NO_NUMPY = "can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() to copy the tensor to host memory first."

# Elementwise operators to which torch gives no pointwise tag; they take 0-dim CPU tensors too.
_ELEMENTWISE = {"fill", "masked_fill", "index_fill", "rsub", "floor_divide", "mse_loss"}
_SHAPE_OR_VALUE = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape}
_SKIPPED_FRAMES = (os.path.dirname(torch.__file__) + os.sep, __file__, "<")


class Event(NamedTuple):
    """kind: "h2d" or "d2h"; what: the operator or method; where: file:line of the nearest frame outside torch."""

    kind: str
    what: str
    where: str


def _storage(tensor):
    with torch._C.DisableTorchFunction():
        return tensor.untyped_storage()


def _on_cuda(tensor):
    return getattr(_storage(tensor), "fake_cuda", False)


def _place(tensor, cuda):
    _storage(tensor).fake_cuda = cuda


def _tensors(tree):
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]


def _means_cuda(device):
    """True for cuda, False for the CPU, None for devices that are none of our business, such as "meta"."""
    device = torch.device("cuda", device) if isinstance(device, int) else torch.device(device)
    if device.type == "cuda" and device.index not in (None, 0):
        raise RuntimeError("CUDA error: invalid device ordinal")
    return {"cuda": True, "cpu": False}.get(device.type)


class _Transfer(torch.autograd.Function):
    # `.to` between two CPU tensors would leave nothing in the graph, and the gradient would stay on the wrong device.
    @staticmethod
    def forward(ctx, x, count, cuda, what):
        ctx.given = count, cuda, what
        count(cuda, what)
        out = x.clone()
        _place(out, cuda)
        return out

    @staticmethod
    def backward(ctx, gradient):
        count, cuda, what = ctx.given
        return _Transfer.apply(gradient, count, not cuda, f"backward of {what}"), None, None, None


class _Dispatch(TorchDispatchMode):
    def __init__(self, fake):
        super().__init__()
        self.fake = fake

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        with torch._C.DisableTorchFunction():
            return self.fake._operator(func, args, kwargs or {})


class FakeCuda(TorchFunctionMode):
    """See the top of this file. Attributes: events, a list of `Event`; h2d and d2h, their numbers."""

    def __init__(self):
        super().__init__()
        self.events = []
        self._call = (None, ())  # of the running torch function: the device it was given, its arguments
        self._generators = weakref.WeakValueDictionary()
        t = torch.Tensor
        self._answers = {
            t.device.__get__: lambda _, x: CUDA if _on_cuda(x) else x.device,
            t.is_cuda.__get__: lambda _, x: _on_cuda(x),
            t.is_cpu.__get__: lambda _, x: x.is_cpu and not _on_cuda(x),
            t.get_device: lambda _, x: 0 if _on_cuda(x) else x.get_device(),
            t.to: self._to,
            t.cpu: lambda _, x: self._move(x, False, "cpu"),
            t.cuda: lambda _, x, device="cuda": self._move(x, _means_cuda("cuda" if device is None else device), "cuda"),
            t.numpy: self._numpy,
            t.__array__: self._numpy,
            t.tolist: self._read,
            t.grad.__set__: self._set_grad,
            torch.tensor: self._from_data,
            torch.as_tensor: self._from_data,
        }

    def __enter__(self):
        with ExitStack() as stack:
            cuda = {
                "is_available": lambda: True,
                "device_count": lambda: 1,
                "current_device": lambda: 0,
                "get_device_name": lambda device=None: "fake CUDA",
                "is_current_stream_capturing": lambda: False,
                "get_rng_state": lambda device=None: torch.empty(0, dtype=torch.uint8),  # for `torch.random.fork_rng`
                "set_rng_state": lambda state, device=None: None,
                "synchronize": lambda device=None: None,
            }
            for name, fake in cuda.items():
                stack.enter_context(mock.patch.object(torch.cuda, name, fake))
            # Builds of torch with CUDA would ask the driver.
            stack.enter_context(mock.patch.object(Optimizer, "_accelerator_graph_capture_health_check", lambda self: None))
            stack.enter_context(mock.patch.object(torch, "Generator", self._generator_class()))
            # C++ would group a cuda tensor with the CPU ones, and optimizers would take the group's device for the tensors'.
            stack.enter_context(mock.patch.object(torch._C, "_group_tensors_by_device_and_dtype", _group_tensors))
            stack.enter_context(_Dispatch(self))
            super().__enter__()
            self._undo = stack.pop_all()
        return self

    def __exit__(self, *exception):
        super().__exit__(*exception)
        self._undo.close()

    h2d = property(lambda self: self._number("h2d"), doc="Transfers from the host to the device.")
    d2h = property(lambda self: self._number("d2h"), doc="Transfers from the device to the host.")

    def reset(self):
        """Empty `events`."""
        self.events.clear()

    def _number(self, kind):
        return sum(event.kind == kind for event in self.events)

    def _count(self, to_cuda, what):
        frame = sys._getframe()
        while frame.f_back and frame.f_code.co_filename.startswith(_SKIPPED_FRAMES):
            frame = frame.f_back
        place = os.sep.join(frame.f_code.co_filename.split(os.sep)[-2:])
        where = f"{place}:{frame.f_lineno} in {frame.f_code.co_name}"
        self.events.append(Event("h2d" if to_cuda else "d2h", what, where))

    # What Python asks.

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if func in self._answers:
            return self._answers[func](func, *args, **kwargs)
        given = None if kwargs.get("device") is None else _means_cuda(kwargs["device"])
        if given is not None:
            kwargs["device"] = CPU
        before, self._call = self._call, (given, (args, kwargs))
        try:
            return func(*args, **kwargs)
        finally:
            self._call = before

    def _move(self, x, cuda, what):
        return x if _on_cuda(x) == cuda else _Transfer.apply(x, self._count, cuda, what)

    def _to(self, func, x, *args, **kwargs):
        args = list(args)
        target = args[0] if args else kwargs.get("device", kwargs.get("other"))
        if isinstance(target, torch.Tensor):
            cuda = _on_cuda(target)
        else:
            cuda = None if target is None or isinstance(target, torch.dtype) else _means_cuda(target)
            if cuda is not None and args:
                args[0] = CPU
            elif cuda is not None:
                kwargs["device"] = CPU
        return func(x if cuda is None else self._move(x, cuda, "to"), *args, **kwargs)

    def _from_data(self, func, data, device=None, **kwargs):
        follows = isinstance(data, torch.Tensor) and _on_cuda(data)
        cuda = follows if device is None else _means_cuda(device)
        if isinstance(data, torch.Tensor):
            out = func(self._move(data if func is torch.as_tensor else data.detach(), cuda, func.__name__), **kwargs)
        else:
            for _ in filter(_on_cuda, _tensors(data)):
                self._count(False, func.__name__)
            out = func(data, **kwargs)
            if cuda:
                self._count(True, func.__name__)
                out = out.clone()  # an array's memory is shared with no device
        if func is torch.tensor or not isinstance(data, torch.Tensor):
            _place(out, cuda)
        return out

    def _numpy(self, func, x, *args, **kwargs):
        if _on_cuda(x):
            raise TypeError(NO_NUMPY)
        return func(x, *args, **kwargs)

    def _read(self, func, x):
        if _on_cuda(x):
            self._count(False, func.__name__)
        return func(x)

    def _set_grad(self, func, x, grad):
        if grad is not None and _on_cuda(grad) != _on_cuda(x):
            raise RuntimeError("assigned grad has data located on a different device")
        return func(x, grad)

    def _generator_class(self):
        registered = self._generators

        class Generator(torch._C.Generator):
            def __new__(cls, device="cpu"):
                generator = super().__new__(cls)
                generator.cuda = _means_cuda(device)
                # An operator sees another Python object for the same generator.
                registered[generator._cdata] = generator
                return generator

            device = property(lambda self: CUDA if self.cuda else CPU)

        return Generator

    # What runs.

    def _operator(self, func, args, kwargs):
        name = func.overloadpacket.__name__
        if name in ("copy_", "_foreach_copy_"):
            for to, source in zip(_tensors(args[0]), _tensors(args[1]), strict=False):
                if _on_cuda(to) != _on_cuda(source):
                    self._count(_on_cuda(to), name)
            return func(*args, **kwargs)
        tensors = _tensors((args, kwargs))
        given, call = self._call
        if given is not None:
            cuda = given
        elif tensors:
            cuda = any(map(_on_cuda, tensors))
        else:  # made by torch for a function's own use, as zeros in a backward pass: they follow what the function was given
            cuda = any(map(_on_cuda, _tensors(call)))
        if name.startswith("_foreach"):
            return self._foreach(func, args, kwargs)
        if name.strip("_") in ("index", "unsafe_index", "index_put", "index_put_impl", "unsafe_index_put"):
            self._check_indices(name, args)
        elif cuda and given is None:
            self._check_operands(func, args, kwargs)
            if _SHAPE_OR_VALUE & set(func.tags):
                self._count(False, name)
        for leaf in tree_leaves((args, kwargs)):
            if isinstance(leaf, torch._C.Generator):
                found = getattr(self._generators.get(leaf._cdata), "cuda", False)
                if found != cuda:
                    wanted, found = ("cuda", "cpu") if cuda else ("cpu", "cuda")
                    raise RuntimeError(f"Expected a '{wanted}' device type for generator but found '{found}'")
        out = func(*args, **kwargs)
        if cuda:
            for tensor in _tensors(out):
                _place(tensor, True)
        return out

    def _check_operands(self, func, args, kwargs):
        elementwise = torch.Tag.pointwise in func.tags or func.overloadpacket.__name__.rstrip("_") in _ELEMENTWISE
        for position, argument in enumerate(func._schema.arguments):
            value = args[position] if position < len(args) else kwargs.get(argument.name)
            written = argument.alias_info is not None and argument.alias_info.is_write
            for tensor in _tensors(value):
                scalar = tensor.dim() == 0 and elementwise and not written
                if not _on_cuda(tensor) and not (scalar and func is not torch.ops.aten.equal.default):
                    raise RuntimeError(f"{MIXED} (in {func})")

    def _check_indices(self, name, args):
        cuda, indices, values = _on_cuda(args[0]), _tensors(args[1]), _tensors(args[2:3])
        for index in indices:
            if _on_cuda(index) and not cuda:
                raise RuntimeError("indices should be either on cpu or on the same device as the indexed tensor (cpu)")
            if cuda and not _on_cuda(index):
                self._count(True, f"{name} by CPU indices")
            elif cuda and index.dtype in (torch.bool, torch.uint8):
                self._count(False, f"{name} by a mask")
        for value in values:
            if _on_cuda(value) != cuda:
                if not cuda or value.dim():
                    raise RuntimeError(f"{MIXED} (in {name})")
                self._count(True, f"{name} of a CPU value")

    def _foreach(self, func, args, kwargs):
        lists = [arg for arg in (*args, *kwargs.values()) if isinstance(arg, list) and _tensors(arg)]
        shared = [arg for arg in args if isinstance(arg, torch.Tensor)]
        for row in zip(*lists, strict=False):
            operands = [*row, *shared]
            if any(map(_on_cuda, operands)) and any(not _on_cuda(x) and (x is row[0] or x.dim()) for x in operands):
                raise RuntimeError(f"{MIXED} (in {func})")
        out = func(*args, **kwargs)
        for made, source in zip(out or (), lists[0], strict=False):
            _place(made, _on_cuda(source))
        return out


def _group_tensors(lists, with_indices=False):
    groups = defaultdict(lambda: ([[] for _ in lists], []))
    for i, first in enumerate(lists[0]):
        columns, indices = groups[CUDA if _on_cuda(first) else CPU, first.dtype]
        for column, tensors in zip(columns, lists, strict=True):
            if tensors:
                column.append(tensors[i])
        if with_indices:
            indices.append(i)
    return dict(groups)
