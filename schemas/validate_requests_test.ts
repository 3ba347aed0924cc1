import assert from "node:assert/strict";
import {
  ReceiveMigrationDataSchema,
  RestoreConfigSchema,
  SendMigrationDataSchema,
} from "@schemas/api/migration.ts";
import { VmConfigSchema } from "@schemas/api/vm_config.ts";
import {
  validateReceiveMigration,
  validateRestore,
  validateSendMigration,
  validateZoneUpdates,
  withZoneUpdates,
} from "@schemas/validate_requests.ts";

const restore = (request: object, saved: object = {}) => {
  const error = validateRestore(
    RestoreConfigSchema.parse({ source_url: "file:///s", ...request }),
    VmConfigSchema.parse(saved),
  );
  return error === undefined ? undefined : `${error.status} ${error.chain().join(" / ")}`;
};

Deno.test("validateRestore() refuses prefault with on-demand memory first", () => {
  const both = { prefault: true, memory_restore_mode: "OnDemand" };
  const text =
    "400 Failed to validate config / 'prefault' cannot be combined with 'memory_restore_mode=ondemand'";
  assert.equal(restore(both), text);
  assert.equal(restore({ ...both, net_fds: [{ id: "a" }, { id: "a" }] }), text);
});

Deno.test("validateRestore() wants as many tap descriptors as were saved", () => {
  const saved = { net: [{ id: "n", fds: [-1, -1] }, { id: "m" }] };
  const required = "400 Failed to validate config / Net id n is associated with FDs and is required";
  assert.equal(restore({}, saved), required);
  assert.equal(restore({ net_fds: [{ id: "m" }] }, saved), required);
  assert.equal(
    restore({ net_fds: [{ id: "n" }] }, saved),
    "400 Failed to validate config / Number of Net FDs passed for 'n' during Restore: 0. Expected: 2",
  );
  assert.equal(restore({ net_fds: [{ id: "n", num_fds: 2 }] }, saved), undefined);
  assert.equal(
    restore({ net_fds: [{ id: "a" }, { id: "a" }] }),
    "409 Failed to validate config / Identifier a is not unique",
  );
});

Deno.test("validateRestore() refuses a saved network device with descriptors and no identifier", () => {
  assert.equal(
    restore({}, { net: [{ fds: [-1] }] }),
    "400 Failed to validate config / Net id  is associated with FDs and is required",
  );
});

Deno.test("validateRestore() checks VFIO descriptors after zone updates", () => {
  const iommufd = { platform: { iommufd: true } };
  const devices = { devices: [{ id: "d", path: "p" }, { id: "e", fd: -1 }] };
  const first = (request: object, saved: object) => restore(request, saved)?.split(" / ")[1];
  const given = (...ids: string[]) => ({ vfio_fds: ids.map((id) => ({ id })) });
  assert.equal(first({}, devices), "VFIO device 'e' was FD backed and needs a new fd in 'vfio_fds'");
  assert.equal(first(given("d"), devices), "Platform `iommufd_fd=<fd>` requires `iommufd=on`");
  assert.equal(
    first({ ...given("x"), zone_updates: [{ id: "", host_numa_node: 0 }] }, devices),
    "At least one memory zone update with an empty ID was defined",
  );
  assert.equal(first(given("x", "x"), { ...devices, ...iommufd }), "Identifier x is not unique");
  assert.equal(
    first(given("e", "x"), { ...devices, ...iommufd }),
    "VFIO device id 'x' in 'vfio_fds' does not match any device in the snapshot",
  );
  assert.equal(first(given("e"), { ...devices, ...iommufd }), undefined);
});

Deno.test("validateZoneUpdates() wants zones the configuration has", () => {
  const updates = [{ id: "z", host_numa_node: 3 }];
  const saved = (memory: object) => VmConfigSchema.parse({ memory });
  assert.equal(validateZoneUpdates(saved({ size: 1n }), []), undefined);
  assert.deepEqual(validateZoneUpdates(saved({ size: 1n }), updates)?.chain(), [
    "Error applying memory zone updates",
    "No zones specified in original config",
  ]);
  const other = saved({ size: 0n, zones: [{ id: "y", size: 1n }] });
  assert.deepEqual(validateZoneUpdates(other, updates)?.chain(), [
    "Error applying memory zone updates",
    'Zone ID "z" wasn\'t contained in original config',
  ]);
  const matching = saved({ size: 0n, zones: [{ id: "z", size: 1n }, { id: "y", size: 1n }] });
  assert.equal(validateZoneUpdates(matching, updates), undefined);
  const nodes = withZoneUpdates(matching, updates).memory.zones?.map((zone) => zone.host_numa_node);
  assert.deepEqual(nodes, [3, undefined]);
});

const PREFIX = "Error validating send migration parameters: ";
const sendChain = (request: object) => validateSendMigration(SendMigrationDataSchema.parse(request))?.chain();
const send = (request: object) => sendChain(request)?.[2];

Deno.test("validateSendMigration() reports under the original's context with status 500", () => {
  assert.deepEqual(sendChain({ destination_url: "tcp:a:b", connections: 129 }), [
    "Failed to send migratable component snapshot",
    "Invalid send migration configuration",
    `${PREFIX}destination_url must use tcp:<host>:<port> or unix:<path>.`,
    "Invalid TCP port: b",
    "invalid digit found in string",
  ]);
  assert.equal(validateSendMigration(SendMigrationDataSchema.parse({ destination_url: "x" }))?.status, 500);
});

Deno.test("validateSendMigration() checks in the original's order", () => {
  const unix = { destination_url: "unix:/x" };
  const tcp = { destination_url: "tcp:127.0.0.1:1" };
  const postcopy = { memory_mode: "Postcopy" };
  const cases: readonly (readonly [object, string])[] = [
    [{ ...unix, connections: 129 }, "UNIX sockets and connections option cannot be used at the same time."],
    [
      { ...unix, tls_dir: "/y", local: true },
      "UNIX sockets and TLS encryption cannot be used at the same time.",
    ],
    [{ ...tcp, local: true, ...postcopy }, "local option is only supported with UNIX sockets."],
    [{ ...tcp, connections: 129, preserve_source: true }, "connections must not exceed 128."],
    [
      { ...tcp, connections: 2, ...postcopy, preserve_source: true },
      "preserve_source option is only supported with the local option.",
    ],
    [{ ...unix, local: true, ...postcopy }, "memory_mode=postcopy and local options are mutually exclusive."],
    [
      { ...tcp, connections: 2, ...postcopy },
      "memory_mode=postcopy currently requires a single connection (connections=1).",
    ],
  ];
  for (const [request, text] of cases) assert.equal(send(request), PREFIX + text);
  assert.equal(send({ ...unix, local: true, preserve_source: true }), undefined);
  assert.equal(send({ ...tcp, connections: 128 }), undefined);
});

Deno.test("validateReceiveMigration() checks URL, then TLS, then zone updates", () => {
  const receive = (request: object) =>
    validateReceiveMigration(ReceiveMigrationDataSchema.parse(request))?.chain();
  const empty = { zone_updates: [{ id: "", host_numa_node: 0 }] };
  const context = [
    "Failed to receive migratable component snapshot",
    "Invalid receive migration configuration",
  ];
  assert.deepEqual(receive({ receiver_url: "unix:", ...empty }), [
    ...context,
    "Expected receiver_url to either use `tcp` or `unix` prefix",
  ]);
  assert.deepEqual(receive({ receiver_url: "unix:/a", tls_dir: "/q", ...empty }), [
    ...context,
    "UNIX sockets and TLS encryption cannot be used at the same time",
  ]);
  assert.deepEqual(
    receive({ receiver_url: "tcp:a:1", zone_updates: [...empty.zone_updates, ...empty.zone_updates] }),
    [
      ...context,
      "More than one update was defined for at least one memory zone",
    ],
  );
  assert.equal(receive({ receiver_url: "tcp:[::1]:80" }), undefined);
});
