import assert from "node:assert/strict";
import { buildMpTable } from "./mptable.ts";
import { resolveTopology } from "./topology.ts";

const flat = (vcpus: number) => resolveTopology(undefined, vcpus);

Deno.test("buildMpTable() lies at the next 16-byte boundary with right checksums", () => {
  assert.equal(buildMpTable(0xf_0084, 1, flat(1))?.gpa, 0xf_0090);
  assert.equal(buildMpTable(0xf_0090, 1, flat(1))?.gpa, 0xf_00a0);
  const { gpa, bytes } = buildMpTable(0xf_0084, 3, flat(3))!;
  const view = new DataView(bytes.buffer);
  const sum = (part: Uint8Array) => part.reduce((total, byte) => (total + byte) & 0xff, 0);
  assert.equal(sum(bytes.subarray(0, 16)), 0);
  assert.equal(view.getUint32(4, true), gpa + 16);
  assert.equal(view.getUint16(20, true), bytes.length - 16);
  assert.equal(sum(bytes.subarray(16)), 0);
  // Three processors of 20 bytes, then bus, IOAPIC, 16 interrupts and 2 local interrupts of 8 bytes each.
  assert.equal(bytes.length, 16 + 44 + 3 * 20 + 20 * 8);
  assert.deepEqual([bytes[16 + 44 + 3], bytes[16 + 44 + 20 + 1], bytes[16 + 44 + 20 + 3]], [3, 1, 1]);
});

Deno.test("buildMpTable() is left out for large APIC ids and where it does not fit", () => {
  assert.ok(buildMpTable(0xf_0084, 254, flat(254)));
  assert.equal(buildMpTable(0xf_0084, 255, flat(255)), undefined);
  assert.equal(buildMpTable(0xf_ff00, 1, flat(1)), undefined);
  assert.ok(buildMpTable(0xf_0084, 0, flat(0)));
});
