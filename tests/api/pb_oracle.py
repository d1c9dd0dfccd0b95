#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What protoc and Debian's protobuf library make of the same data.

usage: pb_oracle.py KINDS_DIR WORK_DIR

WORK_DIR holds pairs NAME.json (an object) and NAME.pb (its bytes, made by the code under test). A .proto file is
written from the data files and compiled. Each object is encoded anew by the library: it must be the message that the
library reads from NAME.pb, without unknown fields. The library's own bytes go to NAME.oracle, for the way back."""
import base64
import datetime
import glob
import json
import os
import re
import subprocess
import sys

META = "k8s.io.apimachinery.pkg.apis.meta.v1."
SCALARS = {"string", "bytes", "bool", "int32", "int64", "double"}
SPECIAL = {
    META + "Time": "optional int64 seconds = 1; optional int32 nanos = 2;",
    META + "MicroTime": "optional int64 seconds = 1; optional int32 nanos = 2;",
    META + "FieldsV1": "optional bytes only = 1;",
    "k8s.io.apimachinery.pkg.runtime.RawExtension": "optional bytes only = 1;",
    "k8s.io.apimachinery.pkg.api.resource.Quantity": "optional string only = 1;",
    "k8s.io.apimachinery.pkg.util.intstr.IntOrString":
        "optional int64 type = 1; optional int32 intVal = 2; optional string strVal = 3;",
    META + "Verbs": "repeated string only = 1;",
    "k8s.io.api.authentication.v1.ExtraValue": "repeated string only = 1;",
    "k8s.io.api.authorization.v1.ExtraValue": "repeated string only = 1;",
    "k8s.io.api.certificates.v1.ExtraValue": "repeated string only = 1;",
    "k8s.io.list": "optional bytes metadata = 1; repeated bytes items = 2;",
    "k8s.io.apimachinery.pkg.runtime.TypeMeta": "optional string apiVersion = 1; optional string kind = 2;",
    "k8s.io.apimachinery.pkg.runtime.Unknown":
        "optional k8s_io_apimachinery_pkg_runtime_TypeMeta typeMeta = 1; optional bytes raw = 2;"
        "optional string contentEncoding = 3; optional string contentType = 4;",
}


def flat(name):
    return name.replace(".", "_").replace("-", "_")


class Schema:
    def __init__(self, directory):
        self.messages, self.wire, self.kinds = {}, {}, {}
        for path in glob.glob(os.path.join(directory, "*.json")):
            with open(path, encoding="utf-8") as f:
                data = json.load(f)
            for name, m in data["messages"].items():
                self.messages["k8s.io." + name.removeprefix("io.k8s.")] = m
            self.wire.update(data["pbMessages"])
            for k in data["kinds"]:
                group = data["group"] + "/" if data["group"] else ""
                self.kinds[group + data["version"], k["kind"]] = "k8s.io." + k["message"].removeprefix("io.k8s.")
        self.shown = {name: m["fields"] for name, m in self.messages.items()}
        for name, m in self.messages.items():
            numbers = {f: v["pb"] for f, v in m["fields"].items() if "pb" in v}
            numbers.update(m.get("pbInline", {}))
            self.wire[name] = numbers

    def resolve(self, owner, name):
        if name.startswith("."):
            return name[1:]
        return name if name.startswith("k8s.io.") else owner.rsplit(".", 1)[0] + "." + name

    def proto_type(self, owner, name):
        m = re.fullmatch(r"map<string, *(.*)>", name)
        if m:
            return f"map<string, {self.proto_type(owner, m[1])}>"
        return name if name in SCALARS else flat(self.resolve(owner, name))

    def proto(self):
        out = ['syntax = "proto2";']
        out += [f"message {flat(n)} {{ {body} }}" for n, body in SPECIAL.items()]
        for name, fields in sorted(self.wire.items()):
            out.append(f"message {flat(name)} {{")
            for field, (number, kind, label) in fields.items():
                label = "" if kind.startswith("map<") else label + " "
                out.append(f"  {label}{self.proto_type(name, kind)} {field} = {number};")
            out.append("}")
        return "\n".join(out) + "\n"


def stamp(message, text):
    when = datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))
    message.seconds = int(when.replace(microsecond=0).timestamp())
    message.nanos = when.microsecond * 1000


class Builder:
    def __init__(self, schema):
        self.schema = schema

    def special(self, kind, message, v):
        """A value whose message is not the schema's."""
        if kind == "quantity":
            message.only = v
        elif kind in ("time", "microTime"):
            stamp(message, v)
        elif kind == "raw":
            message.only = json.dumps(v, separators=(",", ":")).encode()
        elif kind == "intOrString":
            message.type, message.intVal, message.strVal = (1, 0, v) if isinstance(v, str) else (0, v, "")
        else:
            message.only.extend(v)

    def inside(self, field, message, v):
        if field["type"] == "object":
            self.fill("k8s.io." + field["ref"].removeprefix("io.k8s."), message, v)
        else:
            self.special(field["type"], message, v)

    @staticmethod
    def scalar(field, v):
        return base64.b64decode(v) if field["type"] == "bytes" else v

    def value(self, field, at, name, v):
        kind = field["type"]
        scalars = ("string", "bool", "int32", "int64", "double", "bytes")
        target = getattr(at, name)
        wire = at.DESCRIPTOR.fields_by_name[name]
        if kind == "array" and wire.label == wire.LABEL_REPEATED:
            for item in v:
                if field["items"]["type"] in scalars:
                    target.append(self.scalar(field["items"], item))
                else:
                    self.inside(field["items"], target.add(), item)
        elif kind == "map":
            for key, item in v.items():
                if field["values"]["type"] in scalars:
                    target[key] = self.scalar(field["values"], item)
                else:
                    self.inside(field["values"], target[key], item)
        elif kind in scalars:
            setattr(at, name, self.scalar(field, v))
        else:
            target.SetInParent()
            self.inside(field, target, v)

    def fill(self, name, message, v, around=None):
        """Members of `v` that the message has; what JSON shows inlined is in it, too."""
        fields = self.schema.shown.get(name) or self.schema.shown[around]
        for member, item in v.items():
            if member in fields and member in message.DESCRIPTOR.fields_by_name:
                self.value(fields[member], message, member, item)
        for inline, (_, kind, _) in self.schema.messages.get(name, {}).get("pbInline", {}).items():
            target = getattr(message, inline)
            target.SetInParent()
            self.fill(self.schema.resolve(name, kind), target, v, name)


def compiled(schema, work):
    """The module with all messages; made in the folder `work`."""
    with open(os.path.join(work, "k8s.proto"), "w", encoding="utf-8") as f:
        f.write(schema.proto())
    subprocess.run(["protoc", f"--python_out={work}", f"-I{work}", "k8s.proto"], check=True)
    sys.path.insert(0, work)
    import k8s_pb2
    return k8s_pb2


def main():
    kinds, work = sys.argv[1:]
    schema = Schema(kinds)
    k8s_pb2 = compiled(schema, work)
    builder, n = Builder(schema), 0
    for path in sorted(glob.glob(os.path.join(work, "*.json"))):
        stem = path.removesuffix(".json")
        with open(path, encoding="utf-8") as f:
            v = json.load(f)
        with open(stem + ".pb", "rb") as f:
            data = f.read()
        assert data[:4] == b"k8s\0", path
        envelope = k8s_pb2.k8s_io_apimachinery_pkg_runtime_Unknown.FromString(data[4:])
        assert (envelope.typeMeta.apiVersion, envelope.typeMeta.kind) == (v["apiVersion"], v["kind"]), path
        name = schema.kinds[v["apiVersion"], v["kind"]]
        kind = getattr(k8s_pb2, flat(name))
        ours, theirs = kind.FromString(envelope.raw), kind()
        builder.fill(name, theirs, v)
        known = kind.FromString(envelope.raw)
        known.DiscardUnknownFields()
        assert known.ByteSize() == ours.ByteSize(), f"{path}: unknown fields"
        assert ours == theirs, f"{path}:\n--- ours\n{ours}\n--- theirs\n{theirs}"
        envelope.raw = theirs.SerializeToString()
        with open(stem + ".oracle", "wb") as f:
            f.write(b"k8s\0" + envelope.SerializeToString())
        n += 1
    print(f"{n} kinds agree")


if __name__ == "__main__":
    main()
