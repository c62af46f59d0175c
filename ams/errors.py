"""Every exception that AMS raises on purpose, as one tree.

    AmsError
    |-- ConfigError              a setting, a file or a command line is wrong: the person can mend it
    |-- ModelError               a model or its card cannot be used
    |   |-- CardError            the card contradicts itself or the ONNX file
    |   |-- UnknownOpError       the ONNX graph holds an op that the trainer cannot differentiate
    |   `-- ClassMapError        teacher and student have no class in common
    |-- WireError                bytes from a peer break the protocol
    |   |-- EnvelopeError        not an AMS message, or one beyond its limits
    |   |-- TransferError        a part of a large message is missing, repeated or altered
    |   `-- HandshakeError       wrong token, wrong model, wrong order of messages
    |-- PatchError               a patch cannot be used
    |   |-- CorruptPatchError    its bytes are malformed or out of range
    |   |-- BaseMismatchError    it is meant for another version or another model
    |   `-- DigestMismatchError  applying it does not give the promised weights
    |-- VideoError               a video or clip cannot be read or written
    |-- BrokerError              the broker refused or cannot be reached
    |   |-- BrokerUnavailableError   try again later
    |   `-- FencedError          another owner has taken this session over
    `-- BackendError             a student runtime failed to build, load or run

A message states what was expected, what came and what to do about it. This file knows of nothing else in AMS.
"""

from __future__ import annotations


class AmsError(Exception):
    """Root of the tree: catching it catches everything that AMS raises on purpose."""


class ConfigError(AmsError):
    """A setting, a file or a command line is wrong."""


class ModelError(AmsError):
    """A model or its card cannot be used."""


class CardError(ModelError):
    """A card contradicts itself or the ONNX file beside it."""


class UnknownOpError(ModelError):
    """An ONNX graph holds an op that the trainer has no rule for."""


class ClassMapError(ModelError):
    """The teacher's classes and the student's have nothing in common."""


class WireError(AmsError):
    """Bytes from a peer break the protocol."""


class EnvelopeError(WireError):
    """Not an AMS message, or one beyond its limits."""


class TransferError(WireError):
    """A part of a large message is missing, repeated or altered."""


class HandshakeError(WireError):
    """The first messages of a connection do not allow it to go on. `code` is the wire's error code."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class PatchError(AmsError):
    """A patch cannot be used. `reason` is the short form that goes on the wire."""

    reason = "patch"


class CorruptPatchError(PatchError):
    """The bytes of a patch are malformed or out of range."""

    reason = "corrupt"


class BaseMismatchError(PatchError):
    """A patch is meant for another version or another model than the one at hand."""

    reason = "base"


class DigestMismatchError(PatchError):
    """Applying a patch does not give the weights that it promises."""

    reason = "digest"


class VideoError(AmsError):
    """A video or a clip cannot be read or written."""


class BrokerError(AmsError):
    """The broker refused an operation or cannot be reached."""


class BrokerUnavailableError(BrokerError):
    """The broker cannot be reached now; trying again later may help."""


class FencedError(BrokerError):
    """Another owner with a higher fence has taken the session over; this one must let go."""


class BackendError(AmsError):
    """A student runtime failed to build, load or run a model."""
