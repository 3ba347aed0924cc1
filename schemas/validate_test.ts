import assert from "node:assert/strict";
import { VmConfigSchema } from "@schemas/api/vm_config.ts";
import type { ConfigHost } from "@schemas/rules/context.ts";
import { validateConsoles, validateVmConfig } from "@schemas/validate.ts";
import { ourAnswer } from "@tests/differential/our_validation.ts";
import golden from "@tests/golden/validation_messages.json" with { type: "json" };

const host: ConfigHost = { pathExists: () => true, fileSizeBytes: () => 4096n };
const config = (value: object) => VmConfigSchema.parse({ payload: { kernel: "k" }, ...value });
const fault = (value: object) => {
  const error = validateVmConfig(config(value), host);
  return error === undefined ? undefined : [error.fieldPath, error.value, error.messages[0], error.status];
};

Deno.test("validateVmConfig() gives the original's recorded message for each rule", () => {
  assert.ok(golden.length > 250);
  for (const { body, answer } of golden) assert.equal(ourAnswer(body), answer, body);
});

Deno.test("validateVmConfig() names field and value", () => {
  assert.deepEqual(fault({ disks: [{}, { queue_size: 3 }] }), [
    "disks[1].queue_size",
    3,
    "Queue size must be a power of 2 no greater than 32768: 3",
    400,
  ]);
  assert.deepEqual(fault({ disks: [{ id: "x" }], net: [{ id: "x" }] }), [
    "net[0].id",
    "x",
    "Identifier x is not unique",
    409,
  ]);
});

Deno.test("validateVmConfig() checks descriptors of network devices", () => {
  const net = (fds: number[], num_queues: number) => fault({ cpus: CPUS, net: [{ fds, num_queues }] })?.[2];
  assert.equal(net([3, 4], 2), "Number of queues (2) to virtio_net does not match the number of FDs (4)");
  assert.equal(net([2], 2), "Reserved fd number (<= 2): 2");
  assert.equal(net([3, 4], 4), undefined);
});
const CPUS = { boot_vcpus: 4, max_vcpus: 4 };

Deno.test("validateVmConfig() wants exactly one name of a VFIO device", () => {
  const device = (fields: object, platform?: object) => fault({ devices: [fields], platform })?.[2];
  assert.equal(
    device({ path: "p", fd: 5 }),
    "VFIO device config must specify at most one of `path=` or `fd=`",
  );
  assert.equal(device({ fd: 5 }), "VFIO device `fd=` requires platform `iommufd_fd=<fd>`");
  assert.equal(device({ fd: 5 }, { iommufd: true, iommufd_fd: 6 }), undefined);
});

Deno.test("validateVmConfig() refuses vhost-user on memory of size 0 without zones", () => {
  const disks = [{ vhost_user: true, vhost_socket: "s" }];
  assert.deepEqual(fault({ memory: { size: 0n }, disks }), [
    "disks[0].vhost_user",
    undefined,
    "Using vhost-user requires using shared memory or huge pages",
    400,
  ]);
});

Deno.test("validateVmConfig() refuses zeros and overflows in the CPU topology", () => {
  const parts = { threads_per_core: 1, cores_per_die: 1, dies_per_package: 1, packages: 1 };
  const topology = (change: object) => fault({ cpus: { ...CPUS, topology: { ...parts, ...change } } })?.[2];
  for (const part of Object.keys(parts)) {
    assert.equal(topology({ [part]: 0 }), "No part of the CPU topology can be zero");
  }
  assert.equal(
    topology({ cores_per_die: 0xffff, dies_per_package: 0xffff, packages: 4 }),
    "Product of CPU topology parts does not match maximum vCPU",
  );
  assert.equal(topology({ packages: 4 }), undefined);
});

Deno.test("validateVmConfig() compares the ivshmem file with the size", () => {
  const ivshmem = (size: bigint) => fault({ ivshmem: { path: "f", size } })?.[2];
  assert.equal(ivshmem(8192n), "Invalid ivshmem backend file size: 4096");
  assert.equal(ivshmem(4096n), undefined);
});

Deno.test("validateConsoles() wants a path where the mode needs one", () => {
  const consoles = (value: object) => {
    const error = validateConsoles(config(value));
    return error === undefined ? undefined : [error.fieldPath, error.messages[0]];
  };
  const file = "Path missing when using file console mode";
  const socket = "Path missing when using socket console mode";
  assert.deepEqual(consoles({ serial: { mode: "File" } }), ["serial.file", file]);
  assert.deepEqual(consoles({ console: { mode: "File" } }), ["console.file", file]);
  assert.deepEqual(consoles({ serial: { mode: "Socket" } }), ["serial.socket", socket]);
  // Whatever its path, there is no such console: opening it says so.
  assert.equal(consoles({ console: { mode: "Socket" } }), undefined);
  assert.deepEqual(consoles({ console: { mode: "Socket" }, serial: { mode: "Socket" } }), [
    "serial.socket",
    socket,
  ]);
  assert.deepEqual(consoles({ debug_console: { mode: "File" } })?.[0], "debug_console.file");
  assert.equal(consoles({ serial: { mode: "File", file: "f" } }), undefined);
});
