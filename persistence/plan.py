"""From a dataclass to its plan: every annotation is compiled once, and one that cannot be stored is refused by name."""

from __future__ import annotations

import collections.abc
import dataclasses
import enum
import inspect
import sys
import types
import typing
from pathlib import PurePath
from typing import Any, NamedTuple

from callboard.jobs.errors import BadJobType, NotDecodable, NotEncodable
from callboard.persistence.choice import Choice, EnumName, FlagBits
from callboard.persistence.container import FixedTuple, Many, Mapping, Union
from callboard.persistence.kind import Kind, immutable
from callboard.persistence.record import Record, Slot, cover
from callboard.persistence.scalar import NONE, SCALARS, path_kind
from callboard.persistence.value import Anything
from callboard.persistence.wire import CHECKPOINT, Fault, Limits, Room, pack, show, unpack

ALLOWED = (
    "allowed are bool, int, float, str, bytes, None, Path, datetime, date, timedelta, UUID, Decimal, enums, Literal, dataclasses, "
    "list, tuple, set, frozenset and dict of these, unions whose members are stored differently, and Any"
)


class FieldPlan(NamedTuple):
    """How one field is stored alone, as a checkpoint does. Independent of all other fields."""

    name: str
    owner: str
    """Name of the dataclass, for error texts."""
    immutable: bool
    """Whether, by its declared type, a value can never change, however deep: the identical object need not be encoded again."""
    kind: Kind
    record: Record
    limits: Limits = CHECKPOINT

    def encode(self, value: object) -> bytes:
        """The value as a blob. Raises NotEncodable with the path, such as `$.files[3].size`."""
        try:
            return pack(self.kind.encode(value, Room(self.limits), self.limits.depth - 1), self.limits)
        except Fault as fault:
            raise NotEncodable(f"{self.owner}: {cover(self.record, fault.within(f'.{self.name}'))}") from fault.__cause__

    def decode(self, blob: bytes) -> object:
        """The value from what `encode` gave. Raises NotDecodable with the path."""
        try:
            return self.kind.decode(unpack(blob, self.limits), self.limits.depth - 1)
        except Fault as fault:
            raise NotDecodable(f"{self.owner}: {cover(self.record, fault.within(f'.{self.name}'))}") from fault.__cause__


class Plan(NamedTuple):
    """How one dataclass is stored."""

    name: str
    """Name of the class."""
    fields: tuple[FieldPlan, ...]
    """In the order of the dataclass."""
    record: Record


_PLANS: dict[type, Plan] = {}


def plan_of(cls: type) -> Plan:
    """The plan of a dataclass, compiled at the first call. Raises BadJobType, naming the field and what is allowed."""
    plan = _PLANS.get(cls)
    if plan is None:
        plan = _PLANS[cls] = _compile(cls)  # two threads may both do this: either plan is as good
    return plan


def _compile(cls: type) -> Plan:
    if not isinstance(cls, type):
        raise BadJobType(f"{show(cls)} is not a class; give a dataclass")
    record = _Compiler().record(cls)
    fields = tuple(FieldPlan(slot.name, cls.__name__, immutable(slot.kind), slot.kind, record) for slot in record.slots)
    return Plan(cls.__name__, fields, record)


class _Compiler:
    """One compilation; remembers the dataclasses met, so that one may hold itself."""

    def __init__(self) -> None:
        self._records: dict[type, Record] = {}

    def record(self, cls: type) -> Record:
        if cls not in self._records:
            _check_class(cls)
            params = cls.__dataclass_params__  # type: ignore[attr-defined]
            record = self._records[cls] = Record(cls, frozen=params.frozen)
            record.fill(tuple(self._slot(cls, field) for field in dataclasses.fields(cls)))
        return self._records[cls]

    def _slot(self, cls: type, field: dataclasses.Field[Any]) -> Slot:
        kind = self.kind(_annotation(cls, field), f"{cls.__name__}.{field.name}")
        no_default = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        return Slot(field.name, kind, given=field.init, required=no_default and field.init, shown=field.repr)

    def kind(self, annotation: Any, where: str) -> Kind:
        """The kind for an annotation; `where` names the field for the error text."""
        origin, args = typing.get_origin(annotation), typing.get_args(annotation)
        if origin is typing.Annotated or origin is typing.Final:
            return self.kind(args[0], where)
        if origin is typing.Literal:
            return _choice(args, where)
        if origin is typing.Union or origin is types.UnionType:
            return self._union(args, where)
        if origin is None:
            return self._bare(annotation, where)
        return self._generic(annotation, origin, args, where)

    def _bare(self, annotation: Any, where: str) -> Kind:
        if annotation is Any or annotation is object:
            return Anything()
        if annotation is None:
            return SCALARS[NONE]
        if isinstance(annotation, typing.NewType):
            return self.kind(annotation.__supertype__, where)
        if type(annotation).__name__ == "TypeAliasType":  # `type X = …`, Python 3.12
            return self.kind(annotation.__value__, where)
        if not isinstance(annotation, type):
            raise _refuse(where, annotation)
        if annotation in SCALARS:
            return SCALARS[annotation]
        if issubclass(annotation, PurePath):
            return path_kind(annotation)
        if issubclass(annotation, enum.Flag):
            return FlagBits(annotation)
        if issubclass(annotation, enum.Enum):
            return EnumName(annotation)
        if annotation in (list, set, frozenset, tuple):
            return Many(annotation, Anything())
        if annotation is dict:
            return Mapping(Union((SCALARS[str], SCALARS[int], SCALARS[bytes])), Anything())
        if dataclasses.is_dataclass(annotation):
            return self.record(annotation)
        raise _refuse(where, annotation)

    def _generic(self, annotation: Any, origin: Any, args: tuple[Any, ...], where: str) -> Kind:
        if origin in (list, set, frozenset):
            return Many(origin, self.kind(args[0], where))
        if origin is tuple:
            if len(args) == 2 and args[1] is Ellipsis:
                return Many(tuple, self.kind(args[0], where))
            return FixedTuple(tuple(self.kind(arg, where) for arg in args))
        if origin is dict:
            key = self.kind(args[0], where)
            if not key.wires <= {str, int, bytes}:
                raise BadJobType(
                    f"{where}: a dict key of type {key.allowed} cannot be stored; "
                    "allowed are str, int, bytes, enums, Path, UUID, Decimal, date, datetime, timedelta and Literal of these"
                )
            return Mapping(key, self.kind(args[1], where))
        raise _refuse(where, annotation)

    def _union(self, args: tuple[Any, ...], where: str) -> Kind:
        arms = tuple(self.kind(arg, where) for arg in args)
        for index, arm in enumerate(arms):
            if isinstance(arm, Anything):
                return arm
            for other in arms[:index]:
                if arm.wires & other.wires:
                    way_out = (
                        "put them in one dataclass, as a field each with default None"
                        if isinstance(arm, Record) or isinstance(other, Record)
                        else "declare one of them"
                    )
                    raise BadJobType(f"{where}: {other.allowed} and {arm.allowed} look the same when stored; {way_out}")
        return Union(arms)


def _refuse(where: str, annotation: object) -> BadJobType:
    text = annotation.__qualname__ if isinstance(annotation, type) else str(annotation)
    instead = _INSTEAD.get(typing.get_origin(annotation) or annotation)
    return BadJobType(f"{where}: {text[:100]} cannot be stored; " + (f"declare {instead}; " if instead else "") + ALLOWED)


_INSTEAD: dict[object, str] = {
    collections.abc.Sequence: "list[…] or tuple[…, ...]",
    collections.abc.Iterable: "list[…] or tuple[…, ...]",
    collections.abc.Mapping: "dict[…, …]",
    collections.abc.Set: "frozenset[…]",
    bytearray: "bytes",
    complex: "tuple[float, float]",
}


def _choice(values: tuple[Any, ...], where: str) -> Choice:
    choices: dict[tuple[type, object], object] = {}
    for value in values:
        wire = value._name_ if isinstance(value, enum.Enum) else value
        if (type(wire), wire) in choices:
            raise BadJobType(f"{where}: two values of the Literal are stored as {wire!r}; leave one out")
        choices[type(wire), wire] = value
    return Choice([(value, wire) for (_, wire), value in choices.items()])


def _check_class(cls: type) -> None:
    """Refuse what would look stored and is not, or could not be made again."""
    if not dataclasses.is_dataclass(cls):
        raise BadJobType(f"{cls.__qualname__} is not a dataclass; decorate it with @dataclass")
    stored = {field.name for field in dataclasses.fields(cls)}
    if "__dataclass_fields__" not in vars(cls):
        loose = [name for name, hint in inspect.get_annotations(cls).items() if name not in stored and "ClassVar" not in str(hint)]
        if loose:
            raise BadJobType(f"{cls.__qualname__}.{loose[0]} is no field, since the class is not decorated; decorate it with @dataclass")
    given = {field.name for field in dataclasses.fields(cls) if field.init}
    try:
        parameters = dict(inspect.signature(cls).parameters)
    except (TypeError, ValueError):
        return
    open_ended = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    for name in sorted(given - parameters.keys()) if not open_ended else ():
        raise BadJobType(f"{cls.__qualname__}.{name} is no parameter of __init__, so it could not be made again; use field(init=False)")
    for name, parameter in parameters.items():
        variable = parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        if name not in given and parameter.default is parameter.empty and not variable:
            raise BadJobType(
                f"{cls.__qualname__}.{name} is asked for by __init__ but is no field (an InitVar?), so the {cls.__name__} could not "
                "be made again; declare it as a field, or give it a default"
            )


def _annotation(cls: type, field: dataclasses.Field[Any]) -> Any:
    """The field's type with all names in it resolved, where the class that declared it would look them up."""
    where = f"{cls.__name__}.{field.name}"
    owner = next((base for base in reversed(cls.__mro__) if vars(base).get("__dataclass_fields__", {}).get(field.name) is field), cls)
    module = vars(sys.modules[owner.__module__]) if owner.__module__ in sys.modules else {}
    names = {**module, owner.__name__: owner} if "<locals>" in owner.__qualname__ else {owner.__name__: owner, **module}
    holder = type(owner.__name__, (), {"__annotations__": {field.name: field.type}})
    try:
        return typing.get_type_hints(holder, globalns=dict(vars(owner)), localns=names)[field.name]
    except NameError as error:
        raise BadJobType(
            f"{where}: the name {error.name!r} in its annotation cannot be resolved; define or import it at the top of "
            f"{owner.__module__}, not inside a function and not only for type checkers"
        ) from None
    except Exception as error:
        raise BadJobType(f"{where}: its annotation cannot be read: {type(error).__name__}: {str(error)[:200]}") from error
