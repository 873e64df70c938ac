"""docs/asyncapi.yaml: what it says of frames, entries, streams and close codes is what the code has."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, get_args

import msgspec
import pytest
import yaml

import router
from edge.client_frames import SEQ_MAX, ClientFrame, decode
from edge.closes import Close
from edge.frames import ServerFrame
from router.collect.entries import FIELDS, Entry, read_message
from router.http.operations import Id
from router.keys import Keys
from router.kick import KICKED, REASON
from router.lines import build_frame
from router.settings import Settings
from router.trace import Stage, TraceEvent

ROOT: Final = Path(__file__).parents[2]
DOCUMENT: Final = yaml.safe_load((ROOT / "docs" / "asyncapi.yaml").read_text(encoding="utf-8"))
SCHEMAS: Final = DOCUMENT["components"]["schemas"]
MESSAGES: Final = DOCUMENT["components"]["messages"]

FRAMES: Final = (*get_args(ServerFrame), *get_args(ClientFrame))


def _references(part: object) -> Iterator[str]:
    """Yield all references in a part of the document."""
    if isinstance(part, dict):
        if "$ref" in part:
            yield part["$ref"]
        for value in part.values():
            yield from _references(value)
    elif isinstance(part, list):
        for value in part:
            yield from _references(value)


def _at(reference: str) -> Any:  # noqa: ANN401 - any part of the document
    found = DOCUMENT
    for step in reference.removeprefix("#/").split("/"):
        found = found[step]
    return found


def test_version_is_the_package_s() -> None:
    """The document is of this version."""
    assert (DOCUMENT["asyncapi"], DOCUMENT["info"]["version"]) == ("3.0.0", router.__version__)


def test_references_lead_somewhere() -> None:
    """None of them is broken."""
    for reference in _references(DOCUMENT):
        _at(reference)


def test_every_component_is_used() -> None:
    """What nobody refers to describes nothing."""
    used = set(_references(DOCUMENT))
    for kind in ("schemas", "messages", "parameters"):
        for name in DOCUMENT["components"][kind]:
            assert f"#/components/{kind}/{name}" in used


@pytest.mark.parametrize("frame", FRAMES, ids=lambda frame: str(frame.__name__))
def test_frame(frame: type[msgspec.Struct]) -> None:
    """It has the fields of the Struct that the edge encodes or decodes, the same of them required, and its type."""
    schema, fields = SCHEMAS[frame.__name__], msgspec.structs.fields(frame)
    assert list(schema["properties"]) == ["type", *(field.encode_name for field in fields)]
    assert schema["required"] == ["type", *(field.encode_name for field in fields if field.required)]
    assert schema["properties"]["type"] == {"const": frame.__struct_config__.tag}
    assert (schema.get("additionalProperties") is False) == frame.__struct_config__.forbid_unknown_fields


def test_every_frame_is_sent_by_somebody() -> None:
    """The server's and the client's stand in an operation each, a message among the server's."""
    server = {frame.__struct_config__.tag for frame in get_args(ServerFrame)} | {"message"}
    client = {frame.__struct_config__.tag for frame in get_args(ClientFrame)}
    for operation, tags in (("toClient", server), ("fromClient", client)):
        named = {reference["$ref"].rpartition("/")[2] for reference in DOCUMENT["operations"][operation]["messages"]}
        assert named == tags
    assert DOCUMENT["channels"]["socket"]["messages"].keys() == server | client


def test_examples_of_the_client_s_frames_are_taken() -> None:
    """The edge reads each of them."""
    for reference in DOCUMENT["operations"]["fromClient"]["messages"]:
        for example in MESSAGES[reference["$ref"].rpartition("/")[2]]["examples"]:
            decode(msgspec.json.encode(example["payload"]))


def test_message_frame() -> None:
    """Its members stand in it in the order in which collect writes them."""
    properties = list(SCHEMAS["Message"]["properties"])
    for seq, content in ((5, '"body":1'), (5, '"text":"t"'), (None, '"text":"t"')):
        members = list(msgspec.json.decode(build_frame("user:a", seq, "m", 1, content)))
        assert members == [name for name in properties if name in members]
        assert set(SCHEMAS["Message"]["required"]) <= set(members)


def test_entry_fields() -> None:
    """The producer's contract has these, and any that begins with `x-`."""
    assert SCHEMAS["Entry"]["properties"].keys() == FIELDS
    assert SCHEMAS["Entry"]["additionalProperties"] is False


def test_examples_of_entries_keep_the_contract() -> None:
    """Collect accepts each of them."""
    for example in MESSAGES["entry"]["examples"]:
        fields = [(name.encode(), value.encode()) for name, value in example["payload"].items()]
        read_message(Entry.of("1-0", fields), 0, 1, Settings())


def test_streams_have_the_names_of_their_keys() -> None:
    """With the shard in braces in its place."""
    keys = Keys("push", 0)
    channels = {name: channel["address"] for name, channel in DOCUMENT["channels"].items() if name != "socket"}
    named = {name: address.replace("{shard}", "{0}") for name, address in channels.items()}
    assert named == {name: getattr(keys, name)() for name in ("intake", "fast", "dead", "offline", "trace", "events")}


def test_dead_letters_and_offline_reports() -> None:
    """Their fields are those that the scripts append, in that order."""
    for script, schema, first in (("bury", "DeadLetter", "reason"), ("dispatch", "OfflineReport", "to")):
        source = (ROOT / "lua" / f"{script}.lua").read_text(encoding="utf-8")
        appended = re.findall(rf"'({first})', \w+, '(\w+)', \w+, '(\w+)', \w+(?:, '(\w+)', \w+)?", source)
        assert tuple(SCHEMAS[schema]["required"]) in [tuple(filter(None, names)) for names in appended]


def test_trace_events() -> None:
    """Their fields and stages."""
    event = TraceEvent("m", "user:a", "stored", 1, "b", 5, "s", "d", ("n",), "w", "t")
    assert list(SCHEMAS["TraceEvent"]["properties"]) == list(event.fields("b"))
    assert SCHEMAS["TraceEvent"]["properties"]["stage"]["examples"] == list(Stage)


def test_presence_events() -> None:
    """Each that a script of presence appends has no other fields."""
    for script, event in (("route_set", "online"), ("offline_say", "offline"), ("node_gone", "gone")):
        source = (ROOT / "lua" / f"{script}.lua").read_text(encoding="utf-8")
        fields = re.findall(rf"'event', '{event}'(.*)\)$", source, re.MULTILINE)
        assert fields
        assert all({*re.findall(r"'(\w+)'", rest)} <= SCHEMAS["PresenceEvent"]["properties"].keys() for rest in fields)
        assert event in SCHEMAS["PresenceEvent"]["properties"]["event"]["enum"]


def test_close_codes() -> None:
    """Each with its words; beside the edge's own, what a back end kicks with unless it chooses another."""
    codes = {str(close.code): close.reason() for close in Close}
    codes[str(KICKED)] += f" or {REASON.partition(':')[0]}"
    assert DOCUMENT["channels"]["socket"]["x-close-codes"]["codes"] == codes


def test_ids_and_seqs() -> None:
    """The same rule as in HTTP, and the highest seq."""
    (rule,), _ = msgspec.json.schema_components([Id])
    assert {name: SCHEMAS["Id"][name] for name in ("minLength", "maxLength", "pattern")} == {
        name: rule[name] for name in ("minLength", "maxLength", "pattern")
    }
    assert SCHEMAS["Seq"]["maximum"] == SEQ_MAX
