/**
 * The rules of restore and incoming migration beside the original: the message for parameters that break a rule.
 *
 * Descriptors and accepted requests are for other tests: here a request gets no further than its rules.
 */
import assert from "node:assert/strict";
import { ReceiveMigrationDataSchema, RestoreConfigSchema } from "@schemas/api/migration.ts";
import { VmConfigSchema } from "@schemas/api/vm_config.ts";
import { readJson } from "@schemas/json/reader.ts";
import {
  validateReceiveMigration,
  validateRestore,
  validateZoneUpdates,
} from "@schemas/validate_requests.ts";
import type { ConfigError } from "@vmm/errors/config_error.ts";
import { REFERENCE_VMM, ReferenceVmm } from "./reference_vmm.ts";

const ZONES = { memory: { size: 0, zones: [{ id: "z", size: 1 << 27 }] } };
const TAPS = { net: [{ id: "n", fds: [-1, -1], num_queues: 4 }, { id: "m" }] };
const VFIO = { devices: [{ id: "d", path: "p" }, { id: "e", fd: -1 }] };
const update = (...ids: string[]) => ({ zone_updates: ids.map((id) => ({ id, host_numa_node: 0 })) });
const taps = (...ids: string[]) => ({ net_fds: ids.map((id) => ({ id })) });
const BOTH_MODES = { prefault: true, memory_restore_mode: "OnDemand" };

/** Saved configuration and request. */
const RESTORES: readonly (readonly [object, object])[] = [
  [{}, {}],
  [{}, BOTH_MODES],
  [{}, { ...BOTH_MODES, ...taps("a", "a") }],
  [{}, update("")],
  [{}, update("a", "a")],
  [{}, update("", "")],
  [{}, update("q")],
  [{}, taps("a", "a")],
  [{}, { ...taps("a", "a"), ...update("") }],
  [ZONES, update("q")],
  [ZONES, update("z", "q")],
  [ZONES, update("z")],
  [TAPS, {}],
  [TAPS, taps("n")],
  [TAPS, taps("m")],
  [TAPS, taps("n", "n")],
  [TAPS, { ...taps("x"), ...update("") }],
  [VFIO, {}],
  [VFIO, update("")],
  [VFIO, update("q")],
  [{ ...VFIO, ...TAPS }, {}],
  [{ ...VFIO, platform: { iommufd: true } }, {}],
];

const INVALID_UPDATE = update("");
const RECEIVES: readonly object[] = [
  { receiver_url: "unix:/unused", ...update("a", "a") },
  { receiver_url: "unix:/unused", ...update("") },
  { receiver_url: "unix:/unused", tls_dir: "/unused", ...INVALID_UPDATE },
  ...[
    ...[
      "",
      "x",
      "unix:",
      "TCP:a:1",
      "file:///x",
      "tcp:",
      "tcp:1",
      "tcp::",
      "tcp::2",
      "tcp:a:",
      "tcp:a:b",
      "tcp:a:-1",
    ],
    ...[
      "tcp:a:65536",
      "tcp:a:+1",
      "tcp:a:00080",
      "tcp:a: 1",
      "tcp:[::1",
      "tcp:[]:1",
      "tcp:[::1]:",
      "tcp:[a]b:1",
    ],
    ...["tcp:[::1]:80", "tcp:[::1]x:1", "tcp:]:1", "tcp:a:1:", "tcp:::1", "unix: "],
  ].map((receiver_url) => ({ receiver_url, ...INVALID_UPDATE })),
];

function differential(name: string, run: (reference: ReferenceVmm) => Promise<void>): void {
  Deno.test({
    name: REFERENCE_VMM === undefined ? `${name} (skipped: REFERENCE_VMM is not set)` : name,
    ignore: REFERENCE_VMM === undefined,
    fn: async () => {
      await using reference = await ReferenceVmm.start();
      await run(reference);
    },
  });
}

/** Our answer in the form of the original's; undefined when no rule is broken. */
function answerOf(failure: string, error: ConfigError | undefined): string | undefined {
  return error && `${error.status} ${JSON.stringify(["Error from API", failure, ...error.chain()])}`;
}

differential("restore parameters are refused as by the original", async (reference) => {
  const snapshot = await Deno.makeTempDir({ prefix: "snapshot-" });
  try {
    for (const [saved, request] of RESTORES) {
      const config = JSON.stringify({ payload: { kernel: "k" }, console: { mode: "Null" }, ...saved });
      const body = JSON.stringify({ source_url: `file://${snapshot}`, ...request });
      await Deno.writeTextFile(`${snapshot}/config.json`, config);
      const reply = await reference.request("PUT", "vm.restore", body);
      const [savedRead, read] = [readJson(VmConfigSchema, config), readJson(RestoreConfigSchema, body)];
      assert.ok(savedRead.ok && read.ok);
      const error = validateRestore(read.value, savedRead.value) ??
        validateZoneUpdates(savedRead.value, read.value.zone_updates);
      const theirs = `${reply.status} ${reply.body}`;
      // The next thing the original misses is the saved state.
      const ours = answerOf("The VM could not be restored", error) ??
        (/state\.json/.test(theirs) ? theirs : "accepted");
      assert.equal(ours, theirs, `${config} ${body}`);
    }
  } finally {
    await Deno.remove(snapshot, { recursive: true });
  }
});

differential("parameters of an incoming migration are refused as by the original", async (reference) => {
  for (const request of RECEIVES) {
    const body = JSON.stringify(request);
    const reply = await reference.request("PUT", "vm.receive-migration", body);
    const read = readJson(ReceiveMigrationDataSchema, body);
    assert.ok(read.ok);
    const ours = answerOf("Error receiving migration", validateReceiveMigration(read.value));
    assert.equal(ours, `${reply.status} ${reply.body}`, body);
  }
});
