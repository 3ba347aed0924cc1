import assert from "node:assert/strict";
import {
  amlBytes,
  buffer,
  bytesAml,
  eisaId,
  encodeLength,
  integer,
  packageOf,
  path,
  qword,
  string,
  uuid,
  withPackageLength,
} from "./encode.ts";
import {
  edgeInterrupt,
  ioPorts,
  memory32Fixed,
  qwordMemory,
  resourceTemplate,
  wordBusNumber,
  wordIo,
} from "./resources.ts";
import {
  acquire,
  arg,
  device,
  equal,
  field,
  ifThen,
  local,
  method,
  name,
  notify,
  ONE,
  store,
} from "./terms.ts";

const hex = (aml: string) => [...amlBytes(aml)].map((b) => b.toString(16).padStart(2, "0")).join(" ");

Deno.test("integer() takes the shortest form", () => {
  assert.deepEqual([0, 1, 2, 0xff, 0x100, 0xffff, 0x1_0000, 0xffff_ffff].map(integer).map(hex), [
    "00",
    "01",
    "0a 02",
    "0a ff",
    "0b 00 01",
    "0b ff ff",
    "0c 00 00 01 00",
    "0c ff ff ff ff",
  ]);
  assert.equal(hex(integer(0x3fff_fffe_f000)), "0e 00 f0 fe ff ff 3f 00 00");
});

Deno.test("qword() keeps all 64 bits of a bigint", () => {
  assert.equal(hex(qword(0xffff_ffff_ffff_fffen)), "fe ff ff ff ff ff ff ff");
  assert.equal(hex(qword(2 ** 53 - 1)), "ff ff ff ff ff ff 1f 00");
});

Deno.test("withPackageLength() counts its own bytes at every width", () => {
  const lengths = (size: number) => hex(withPackageLength("x".repeat(size)).slice(0, 4));
  assert.equal(lengths(62).slice(0, 5), "3f 78");
  assert.equal(lengths(63).slice(0, 8), "41 04 78");
  assert.equal(lengths(0xffd).slice(0, 8), "4f ff 78");
  assert.equal(lengths(0xffe), "81 00 01 78");
  assert.equal(lengths(0x10_0000), "c4 00 00 01");
  assert.throws(() => withPackageLength("x".repeat(1 << 28)), RangeError);
});

Deno.test("encodeLength() does not count itself", () => {
  assert.deepEqual([4, 32, 63, 64, 160].map(encodeLength).map(hex), ["04", "20", "3f", "40 04", "40 0a"]);
});

Deno.test("path() pads segments and prefixes multi-part names", () => {
  assert.equal(path("GED"), "GED_");
  assert.equal(path("_SB_.PC00"), "\x2e_SB_PC00");
  assert.equal(path("\\_SB_.PHPR.PCEJ"), "\\\x2f\x03_SB_PHPRPCEJ");
  for (const wrong of ["", "lower", "1ABC", "TOOLONG", "A..B", "\\"]) {
    assert.throws(() => path(wrong), RangeError);
  }
});

Deno.test("constants encode as the specification shows them", () => {
  assert.equal(hex(eisaId("PNP0A08")), "0c 41 d0 0a 08");
  assert.equal(hex(string("AB")), "0d 41 42 00");
  assert.equal(hex(buffer(bytesAml([1, 2]))), "11 05 0a 02 01 02");
  assert.equal(hex(packageOf(integer(5), integer(0))), "12 05 02 0a 05 00");
  assert.equal(
    hex(uuid("e5c937d0-3553-4d7a-9117-ea4d19c3434d")),
    "11 13 0a 10 d0 37 c9 e5 53 35 7a 4d 91 17 ea 4d 19 c3 43 4d",
  );
});

Deno.test("resource descriptors end in a template with an end tag", () => {
  assert.equal(hex(resourceTemplate()), "11 05 0a 02 79 00");
  assert.equal(hex(ioPorts(0xcf8, 8, 1)), "47 01 f8 0c f8 0c 01 08");
  assert.equal(hex(memory32Fixed(0xe800_0000, 0x10_0000)), "86 09 00 01 00 00 00 e8 00 00 10 00");
  assert.equal(hex(edgeInterrupt(13)), "89 06 00 03 01 0d 00 00 00");
  assert.equal(hex(wordBusNumber(0, 0)), "88 0d 00 02 0c 00 00 00 00 00 00 00 00 00 01 00");
  assert.equal(hex(wordIo(0xd00, 0xffff)), "88 0d 00 01 0c 03 00 00 00 0d ff ff 00 00 00 f3");
  assert.equal(
    hex(qwordMemory(0x1_0000_0000, 0x1_ffff_ffff, 0x1_0000_0000)),
    "8a 2b 00 00 0c 01 " + "00 ".repeat(8) + "00 00 00 00 01 00 00 00 " + "ff ff ff ff 01 00 00 00 " +
      "00 ".repeat(8) + "00 00 00 00 01 00 00 00",
  );
});

Deno.test("terms nest", () => {
  assert.equal(
    hex(device("GED_", name("_UID", integer(0)), method("_EVT", { args: 1, serialized: true }))),
    "5b 82 12 47 45 44 5f 08 5f 55 49 44 00 14 06 5f 45 56 54 09",
  );
  assert.equal(
    hex(ifThen(equal(arg(0), ONE), notify(path("C001"), arg(1)))),
    "a0 0a 93 68 01 86 43 30 30 31 69",
  );
  assert.equal(hex(store(arg(6), local(7))), "70 6e 67");
  assert.equal(hex(acquire("BLCK")), "5b 23 42 4c 43 4b ff ff");
  assert.equal(
    hex(field("PRST", "byte", "writeAsZeros", [null, 32], ["CPEN", 1])),
    "5b 81 0d 50 52 53 54 41 00 20 43 50 45 4e 01",
  );
});
