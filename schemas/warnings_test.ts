import assert from "node:assert/strict";
import { VmConfigSchema } from "@schemas/api/vm_config.ts";
import { configWarnings } from "@schemas/warnings.ts";

const warnings = (value: object) => configWarnings(VmConfigSchema.parse(value));

Deno.test("configWarnings() tells what firmware ignores", () => {
  const [text] = warnings({ payload: { firmware: "f", cmdline: "c" } });
  assert.match(text, /ignored beside firmware/);
  assert.deepEqual(warnings({ payload: { kernel: "k", cmdline: "c", initramfs: "i" } }), []);
  assert.deepEqual(warnings({ payload: { firmware: "f" } }), []);
});

Deno.test("configWarnings() names the consoles that share a terminal, as the original does", () => {
  const tty = { mode: "Tty" };
  assert.deepEqual(warnings({ serial: tty, console: tty }), [
    'Using TTY output for multiple consoles: ["virtio-console", "serial-console"]',
  ]);
  assert.deepEqual(
    warnings({ serial: tty, console: { mode: "Off" }, debug_console: { ...tty, iobase: 1 } }),
    [
      'Using TTY output for multiple consoles: ["serial-console", "debug-console"]',
    ],
  );
  assert.deepEqual(warnings({ serial: { mode: "Null" }, console: tty }), []);
});

Deno.test("configWarnings() tells of a NUMA node that is not at distance 10 from itself", () => {
  const numa = (distance: number) => [{ guest_numa_id: 1, distances: [{ destination: 1, distance }] }];
  assert.match(warnings({ numa: numa(11) })[0], /distance 11 of NUMA node 1/);
  assert.deepEqual(warnings({ numa: numa(10) }), []);
});
