import assert from "node:assert/strict";
import { ArchError } from "./errors.ts";
import { buildSmbios, type SmbiosConfig } from "./smbios.ts";
import { parseUuid } from "./uuid.ts";

interface Structure {
  type: number;
  handle: number;
  formatted: Uint8Array;
  strings: string[];
}

/** Walks the structures as a guest does. */
function structuresOf(config?: SmbiosConfig): Structure[] {
  const { bytes } = buildSmbios(config);
  const view = new DataView(bytes.buffer);
  assert.equal(view.getBigUint64(16, true), 0xf_0018n);
  assert.equal(view.getUint32(12, true), bytes.length - 0x18);
  assert.equal(bytes.subarray(0, 0x18).reduce((sum, byte) => (sum + byte) & 0xff, 0), 0);
  const found: Structure[] = [];
  for (let at = 0x18; at < bytes.length;) {
    const length = bytes[at + 1];
    let end = at + length;
    while (bytes[end] !== 0 || bytes[end + 1] !== 0) end++;
    const text = new TextDecoder().decode(bytes.subarray(at + length, end));
    found.push({
      type: bytes[at],
      handle: view.getUint16(at + 2, true),
      formatted: bytes.subarray(at + 4, at + length),
      strings: text === "" ? [] : text.split("\0"),
    });
    at = end + 2;
  }
  return found;
}

const chainOf = (config: SmbiosConfig) => {
  try {
    buildSmbios(config);
  } catch (error) {
    assert.ok(error instanceof ArchError);
    return error.chain();
  }
  return assert.fail("accepted");
};

Deno.test("buildSmbios() has firmware, system and end by default", () => {
  const structures = structuresOf();
  assert.deepEqual(structures.map((s) => [s.type, s.handle]), [[0, 1], [1, 2], [127, 3]]);
  assert.deepEqual(structures[0].strings, ["cloud-hypervisor", "0"]);
  assert.deepEqual(structures[1].strings, ["Cloud Hypervisor", "cloud-hypervisor"]);
  assert.deepEqual([...structures[1].formatted.subarray(4, 20)], new Array(16).fill(0));
});

Deno.test("buildSmbios() numbers only the strings that are there", () => {
  const [, system, chassis, oem] = structuresOf({
    serialNumber: "abc",
    family: "fam",
    version: "",
    uuid: "01234567-89ab-cdef-0123-456789abcdef",
    chassisAssetTag: "TAG",
    oemStrings: ["one", "", "two"],
  });
  assert.deepEqual(system.strings, ["Cloud Hypervisor", "cloud-hypervisor", "abc", "fam"]);
  assert.deepEqual([...system.formatted.subarray(0, 4)], [1, 2, 0, 3]);
  assert.deepEqual([...system.formatted.subarray(4, 12)], [0x67, 0x45, 0x23, 1, 0xab, 0x89, 0xef, 0xcd]);
  assert.deepEqual([...system.formatted.subarray(20)], [2, 0, 4]);
  assert.deepEqual([chassis.type, chassis.strings], [3, ["TAG"]]);
  assert.deepEqual([oem.type, oem.formatted[0], oem.strings], [11, 2, ["one", "two"]]);
});

Deno.test("buildSmbios() reports what it cannot store", () => {
  const head = [
    "Cannot configure system",
    "Platform specific error (x86_64)",
    "Error setting up SMBIOS table",
  ];
  assert.deepEqual(chainOf({ uuid: "abc" }), [
    ...head,
    "Failure to parse uuid: abc",
    "invalid length: found 3",
  ]);
  assert.equal(
    chainOf({ oemStrings: new Array(256).fill("x") })[3],
    "SMBIOS string index overflow (u8 limit reached: 255)",
  );
  assert.match(chainOf({ serialNumber: "x".repeat(70_000) })[3], /too little address space/);
  assert.match(chainOf({ family: "a\0b" })[3], /NUL/);
});

Deno.test("parseUuid() takes the spellings the original takes", () => {
  const bytes = parseUuid("01234567-89ab-cdef-0123-456789ABCDEF");
  assert.deepEqual(
    bytes,
    Uint8Array.of(1, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef, 1, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef),
  );
  for (
    const text of [
      "0123456789abcdef0123456789abcdef",
      "{01234567-89ab-cdef-0123-456789abcdef}",
      "urn:uuid:01234567-89ab-cdef-0123-456789abcdef",
    ]
  ) {
    assert.deepEqual(parseUuid(text), bytes, text);
  }
});

Deno.test("parseUuid() says what is wrong in the original's words", () => {
  const wrong: Record<string, string> = {
    "a": "invalid length: found 1",
    "{0123}": "invalid group count: expected 5, found 1",
    "0123-4567": "invalid group count: expected 5, found 2",
    "01234567-89ab-cdef-0123-456789abcdef-": "invalid group count: expected 5, found 6",
    "urn:uuid:0123456789abcdef0123456789abcdef": "invalid group count: expected 5, found 1",
    "01234567-89ab-cdef-0123-456789abcdeg": "invalid character: found `g` at 35",
    "0123456789abcdef0123456789abcdex": "invalid character: found `x` at 31",
    "URN:UUID:01234567-89ab-cdef-0123-456789abcdef": "invalid character: found `U` at 0",
    "01234567-89ab-cdef-0123-456789abcde": "invalid group length in group 4: expected 12, found 11",
    "01234567-89ab-cdef-01234-56789abcdef": "invalid group length in group 3: expected 4, found 5",
  };
  for (const [text, message] of Object.entries(wrong)) assert.equal(parseUuid(text), message, text);
});
