import datetime

from google.protobuf import struct_pb2 as _struct_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Result(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    RESULT_UNSPECIFIED: _ClassVar[Result]
    RESULT_DONE: _ClassVar[Result]
    RESULT_REPEATED: _ClassVar[Result]
    RESULT_UNKNOWN: _ClassVar[Result]
    RESULT_INVALID: _ClassVar[Result]
    RESULT_UNAVAILABLE: _ClassVar[Result]
RESULT_UNSPECIFIED: Result
RESULT_DONE: Result
RESULT_REPEATED: Result
RESULT_UNKNOWN: Result
RESULT_INVALID: Result
RESULT_UNAVAILABLE: Result

class ReportRequest(_message.Message):
    __slots__ = ("reports",)
    REPORTS_FIELD_NUMBER: _ClassVar[int]
    reports: _containers.RepeatedCompositeFieldContainer[UsageReport]
    def __init__(self, reports: _Optional[_Iterable[_Union[UsageReport, _Mapping]]] = ...) -> None: ...

class UsageReport(_message.Message):
    __slots__ = ("idempotency_key", "token", "holder", "units", "route")
    class Holder(_message.Message):
        __slots__ = ("family", "subscription")
        FAMILY_FIELD_NUMBER: _ClassVar[int]
        SUBSCRIPTION_FIELD_NUMBER: _ClassVar[int]
        family: str
        subscription: str
        def __init__(self, family: _Optional[str] = ..., subscription: _Optional[str] = ...) -> None: ...
    class UnitsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    IDEMPOTENCY_KEY_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    HOLDER_FIELD_NUMBER: _ClassVar[int]
    UNITS_FIELD_NUMBER: _ClassVar[int]
    ROUTE_FIELD_NUMBER: _ClassVar[int]
    idempotency_key: str
    token: str
    holder: UsageReport.Holder
    units: _containers.ScalarMap[str, int]
    route: str
    def __init__(self, idempotency_key: _Optional[str] = ..., token: _Optional[str] = ..., holder: _Optional[_Union[UsageReport.Holder, _Mapping]] = ..., units: _Optional[_Mapping[str, int]] = ..., route: _Optional[str] = ...) -> None: ...

class ReportResponse(_message.Message):
    __slots__ = ("results",)
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[ReportResult]
    def __init__(self, results: _Optional[_Iterable[_Union[ReportResult, _Mapping]]] = ...) -> None: ...

class ReportResult(_message.Message):
    __slots__ = ("result", "problem", "limits")
    RESULT_FIELD_NUMBER: _ClassVar[int]
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    result: Result
    problem: str
    limits: _containers.RepeatedCompositeFieldContainer[LimitState]
    def __init__(self, result: _Optional[_Union[Result, str]] = ..., problem: _Optional[str] = ..., limits: _Optional[_Iterable[_Union[LimitState, _Mapping]]] = ...) -> None: ...

class SettleRequest(_message.Message):
    __slots__ = ("settlements",)
    SETTLEMENTS_FIELD_NUMBER: _ClassVar[int]
    settlements: _containers.RepeatedCompositeFieldContainer[Settlement]
    def __init__(self, settlements: _Optional[_Iterable[_Union[Settlement, _Mapping]]] = ...) -> None: ...

class Settlement(_message.Message):
    __slots__ = ("receipt", "units")
    class UnitsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    UNITS_FIELD_NUMBER: _ClassVar[int]
    receipt: str
    units: _containers.ScalarMap[str, int]
    def __init__(self, receipt: _Optional[str] = ..., units: _Optional[_Mapping[str, int]] = ...) -> None: ...

class SettleResponse(_message.Message):
    __slots__ = ("results",)
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[SettleResult]
    def __init__(self, results: _Optional[_Iterable[_Union[SettleResult, _Mapping]]] = ...) -> None: ...

class SettleResult(_message.Message):
    __slots__ = ("result", "problem")
    RESULT_FIELD_NUMBER: _ClassVar[int]
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    result: Result
    problem: str
    def __init__(self, result: _Optional[_Union[Result, str]] = ..., problem: _Optional[str] = ...) -> None: ...

class IntrospectRequest(_message.Message):
    __slots__ = ("token", "method", "path", "client_address")
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    METHOD_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    CLIENT_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    token: str
    method: str
    path: str
    client_address: str
    def __init__(self, token: _Optional[str] = ..., method: _Optional[str] = ..., path: _Optional[str] = ..., client_address: _Optional[str] = ...) -> None: ...

class IntrospectResponse(_message.Message):
    __slots__ = ("is_active", "reason", "customer", "subscription", "family", "plan", "scopes", "features", "expires_at", "limits")
    IS_ACTIVE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    CUSTOMER_FIELD_NUMBER: _ClassVar[int]
    SUBSCRIPTION_FIELD_NUMBER: _ClassVar[int]
    FAMILY_FIELD_NUMBER: _ClassVar[int]
    PLAN_FIELD_NUMBER: _ClassVar[int]
    SCOPES_FIELD_NUMBER: _ClassVar[int]
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    is_active: bool
    reason: str
    customer: str
    subscription: str
    family: str
    plan: str
    scopes: _containers.RepeatedScalarFieldContainer[str]
    features: _struct_pb2.Struct
    expires_at: _timestamp_pb2.Timestamp
    limits: _containers.RepeatedCompositeFieldContainer[LimitState]
    def __init__(self, is_active: _Optional[bool] = ..., reason: _Optional[str] = ..., customer: _Optional[str] = ..., subscription: _Optional[str] = ..., family: _Optional[str] = ..., plan: _Optional[str] = ..., scopes: _Optional[_Iterable[str]] = ..., features: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ..., expires_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., limits: _Optional[_Iterable[_Union[LimitState, _Mapping]]] = ...) -> None: ...

class LimitState(_message.Message):
    __slots__ = ("name", "kind", "meter", "amount", "remaining", "is_exceeded", "reset_s")
    NAME_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    METER_FIELD_NUMBER: _ClassVar[int]
    AMOUNT_FIELD_NUMBER: _ClassVar[int]
    REMAINING_FIELD_NUMBER: _ClassVar[int]
    IS_EXCEEDED_FIELD_NUMBER: _ClassVar[int]
    RESET_S_FIELD_NUMBER: _ClassVar[int]
    name: str
    kind: str
    meter: str
    amount: int
    remaining: int
    is_exceeded: bool
    reset_s: int
    def __init__(self, name: _Optional[str] = ..., kind: _Optional[str] = ..., meter: _Optional[str] = ..., amount: _Optional[int] = ..., remaining: _Optional[int] = ..., is_exceeded: _Optional[bool] = ..., reset_s: _Optional[int] = ...) -> None: ...
