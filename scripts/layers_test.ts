import assert from "node:assert/strict";
import { findCycles, layerOf, violation } from "./layers.ts";

const allowed = (from: string, to: string) =>
  assert.equal(violation({ from, to }), undefined, `${from} → ${to}`);
const refused = (from: string, to: string, reason: RegExp) =>
  assert.match(violation({ from, to }) ?? "", reason);

Deno.test("violation() refuses an import of a higher layer and allows the others", () => {
  allowed("src/machine/vm.ts", "src/devices/legacy/serial.ts");
  allowed("src/virtio/queue/chain.ts", "src/virtio/queue/split.ts");
  allowed("src/main.ts", "src/api/router.ts");
  refused("src/virtio/queue/chain.ts", "src/devices/virtio/blk/model.ts", /layer 3 may not import layer 4/);
  refused("src/machine/vm.ts", "src/api/router.ts", /layer 5 may not import layer 6/);
});

Deno.test("violation() keeps siblings in layer 4 apart, but not a family from its shared part", () => {
  refused("src/devices/virtio/blk/handler.ts", "src/devices/virtio/net/spec.ts", /siblings/);
  refused("src/devices/virtio/net/handler.ts", "src/backends/net/tap.ts", /siblings/);
  allowed("src/devices/virtio/blk/handler.ts", "src/devices/virtio/blk/spec.ts");
  allowed("src/devices/virtio/blk/handler.ts", "src/devices/ports.ts");
  allowed("src/backends/disk/raw.ts", "src/backends/disk/disk.ts");
});

Deno.test("violation() keeps devices away from ffi and from schemas", () => {
  refused("src/devices/legacy/serial.ts", "ffi/libc/fd.ts", /may not import ffi/);
  refused("src/devices/virtio/blk/model.ts", "schemas/api/disk.ts", /no schemas/);
  allowed("src/memory/host_memory.ts", "ffi/libc/mmap.ts");
});

Deno.test("violation() narrows what the lowest layer may import", () => {
  refused("ffi/libc/fd.ts", "schemas/primitives.ts", /ffi\/ may import only/);
  refused("schemas/primitives.ts", "npm:ajv", /schemas\/ may import only/);
  allowed("schemas/primitives.ts", "npm:zod");
  allowed("ffi/libc/fd.ts", "src/errors/host_error.ts");
});

Deno.test("violation() exempts tests, refuses imports of them, and wants a layer for every folder", () => {
  allowed("src/devices/legacy/serial_test.ts", "ffi/libc/fd.ts");
  allowed("src/virtio/testing/mock_driver.ts", "src/machine/vm.ts");
  refused("src/machine/vm.ts", "src/virtio/testing/mock_driver.ts", /may not import tests/);
  refused("src/util/x.ts", "src/base/x.ts", /belongs to no layer/);
  assert.equal(layerOf("tests/guest/boot_test.ts"), undefined);
});

Deno.test("findCycles() reports each cycle once and nothing for a diamond", () => {
  const edge = (from: string, to: string) => ({ from, to });
  assert.deepEqual(findCycles([edge("a", "b"), edge("a", "c"), edge("b", "d"), edge("c", "d")]), []);
  assert.deepEqual(findCycles([edge("a", "b"), edge("b", "c"), edge("c", "b")]), [["b", "c"]]);
  assert.deepEqual(findCycles([edge("a", "a")]), [["a"]]);
});
