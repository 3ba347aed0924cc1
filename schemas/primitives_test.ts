import assert from "node:assert/strict";
import { DiskConfigSchema } from "@schemas/api/disk.ts";
import { NetConfigSchema } from "@schemas/api/net.ts";
import { VmConfigSchema } from "@schemas/api/vm_config.ts";
import { randomMac, traitsOf, u16, u64 } from "@schemas/primitives.ts";

Deno.test("integer schemas refuse values outside their width", () => {
  assert.equal(u16().safeParse(65536).success, false);
  assert.equal(u16().safeParse(1.5).success, false);
  assert.equal(u64().safeParse(1n << 64n).success, false);
  assert.equal(u64().safeParse(5).success, false);
  assert.equal(u64().parse((1n << 64n) - 1n), (1n << 64n) - 1n);
});

Deno.test("traitsOf() survives a description", () => {
  assert.deepEqual(traitsOf(u16().describe("Size")), { kind: "scalar", scalar: "u16", big: false });
});

Deno.test("NetConfigSchema brings addresses into canonical form", () => {
  const net = NetConfigSchema.parse({ mac: "AA:BB:CC:DD:EE:FF", ip: "2001:DB8::0:1", mask: "ffff::" });
  assert.deepEqual([net.mac, net.ip], ["aa:bb:cc:dd:ee:ff", "2001:db8::1"]);
  assert.equal(NetConfigSchema.safeParse({ mac: "aa:bb" }).success, false);
  assert.equal(NetConfigSchema.safeParse({ ip: "1.2.3" }).success, false);
});

Deno.test("randomMac() is a unicast address beginning with 2e", () => {
  assert.match(randomMac(), /^2e(:[0-9a-f]{2}){5}$/);
  assert.notEqual(randomMac(), randomMac());
});

Deno.test("VmConfigSchema describes the default VM", () => {
  const config = VmConfigSchema.parse({});
  assert.equal(config.memory.size, 512n << 20n);
  assert.deepEqual([config.cpus.boot_vcpus, config.cpus.max_vcpus], [1, 1]);
  assert.deepEqual([config.serial.mode, config.console.mode, config.debug_console.iobase], [
    "Null",
    "Tty",
    0xe9,
  ]);
  assert.equal("disks" in config, false);
});

Deno.test("each structure parses to a value of its own", () => {
  assert.notEqual(DiskConfigSchema.parse({}), DiskConfigSchema.parse({}));
});
