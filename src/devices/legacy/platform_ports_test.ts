import assert from "node:assert/strict";
import { GedNotification } from "@vmm/arch/x86_64/acpi/platform_values.ts";
import type { GuestEvent } from "@vmm/bus/ports.ts";
import { createEventBudget, EVENT_BURST } from "@vmm/sync/event_budget.ts";
import { AcpiPmTimer, createAcpiPmTimer } from "./acpi_pm_timer.ts";
import { AcpiShutdown } from "./acpi_shutdown.ts";
import { DEBUG_CONSOLE_READ, DebugConsole } from "./debug_console.ts";
import { DebugPort, debugPortRange } from "./debug_port.ts";
import { Ged, GedBlock, notifyGed } from "./ged.ts";
import { I8042 } from "./i8042.ts";
import { PowerControl, PowerControlBlock } from "./power_control.ts";

function power() {
  const events: GuestEvent[] = [];
  const halts = { count: 0 };
  const control = new PowerControl(
    PowerControlBlock.create(),
    { post: (event) => void events.push(event) },
    () => void halts.count++,
  );
  return { events, halts, control };
}

Deno.test("AcpiShutdown resets by 1, powers off by 0x34 and ignores the rest", () => {
  for (const [value, kind] of [[1, "reset"], [0x34, "shutdown"]] as const) {
    const { events, control } = power();
    const device = new AcpiShutdown(control);
    for (let other = 0; other < 256; other++) if (other !== 1 && other !== 0x34) device.write(0, 1, other);
    device.write(0, 2, value);
    device.write(0, 4, value);
    assert.deepEqual(events, []);
    device.write(3, 1, value);
    assert.deepEqual(events, [{ kind }]);
    assert.equal(device.read(), 0);
  }
});

Deno.test("PowerControl posts the first request only and halts the vCPU of each", () => {
  const { events, halts, control } = power();
  control.powerOff();
  control.reset();
  control.reset();
  assert.deepEqual(events, [{ kind: "shutdown" }]);
  assert.equal(halts.count, 3);
});

Deno.test("I8042 answers its two ports and resets by command 0xfe", () => {
  const { events, control } = power();
  const device = new I8042(control);
  assert.equal(device.read(0, 1), 0x20);
  assert.equal(device.read(3, 1), 0);
  device.write(3, 1, 0xd1);
  device.write(2, 1, 0xfe);
  assert.deepEqual(events, []);
  device.write(3, 1, 0xfe);
  assert.deepEqual(events, [{ kind: "reset" }]);
});

Deno.test("AcpiPmTimer counts 3.579545 MHz in dwords and wraps", () => {
  let now = 7e9;
  const time = { monotonicNs: () => now, realtimeUs: () => 0 };
  const timer = new AcpiPmTimer(createAcpiPmTimer(time), time);
  assert.equal(timer.read(0, 4), 0);
  now += 1e9;
  assert.equal(timer.read(0, 4), 3_579_545);
  now += 1200e9; // wraps after 1199.86 s
  assert.ok(timer.read(0, 4) < 3_579_545 * 2);
  assert.equal(timer.read(0, 1), 0);
  assert.equal(new AcpiPmTimer(createAcpiPmTimer(time, 99), time).read(0, 4), 99);
});

Deno.test("DebugPort reports codes within its budget", () => {
  const events: GuestEvent[] = [];
  let now = 1e9;
  const time = { monotonicNs: () => now, realtimeUs: () => 0 };
  const port = new DebugPort(createEventBudget(), time, { post: (event) => void events.push(event) });
  for (let i = 0; i < 10_000; i++) port.write(0, 1, 0x41);
  assert.equal(events.length, EVENT_BURST);
  assert.deepEqual(events[0], { kind: "debug-port", code: 0x41, elapsedUs: 0, leftOut: 0 });
  assert.equal(port.read(), 0);
  now += 1e9;
  port.write(0, 1, 0x42);
  assert.deepEqual(events.at(-1), {
    kind: "debug-port",
    code: 0x42,
    elapsedUs: 1_000_000,
    leftOut: 10_000 - EVENT_BURST,
  });
});

Deno.test("debugPortRange() names the ranges", () => {
  assert.deepEqual([0, 0x1f, 0x20, 0x40, 0x5f, 0x60, 0x7f, 0x80, 0xff].map(debugPortRange), [
    "Firmware",
    "Firmware",
    "Bootloader",
    "Kernel",
    "Kernel",
    "Userspace",
    "Userspace",
    "Custom",
    "Custom",
  ]);
});

Deno.test("DebugConsole passes bytes on and answers what its port is known for", () => {
  const output: number[] = [];
  const device = new DebugConsole({ put: (byte) => void output.push(byte) });
  device.write(0, 1, 0x21);
  device.write(0, 2, 0x2121);
  assert.deepEqual(output, [0x21]);
  assert.equal(device.read(0, 1), 0xe9);
  assert.equal(new DebugConsole({ put() {} }, DEBUG_CONSOLE_READ).read(0, 1), 0);
});

Deno.test("Ged gives its bits once and pulses for each notification", () => {
  const state = GedBlock.create();
  const pulses: number[] = [];
  const lines = { pulse: (gsi: number) => void pulses.push(gsi) };
  const device = new Ged(state);
  notifyGed(state, lines, 13, GedNotification.powerButton);
  notifyGed(state, lines, 13, GedNotification.cpu);
  assert.deepEqual(pulses, [13, 13]);
  assert.equal(device.read(0, 1), 9);
  assert.equal(device.read(0, 1), 0);
});
