/**
 * The remote client over D-Bus: ours and the original's, against our server and the original's.
 *
 * @module
 */
import assert from "node:assert/strict";
import { BUS_COMMANDS, MessageBus, OBJECT, SERVICE } from "@tests/framework/message_bus.ts";
import { type ProgramName, programPath, testWith } from "@tests/framework/programs.ts";
import { HALT, pvhElf } from "@tests/framework/tiny_guest.ts";

const NEEDS = { reference: true, binary: true, kvm: true, commands: BUS_COMMANDS };
const MIB = 1 << 20;

/** A VM's life but its end, at which the original's server often leaves without an answer; `@` stands for its directory. */
const CALLS: readonly (readonly string[])[] = [
  ["ping"],
  ["info"],
  ["boot"],
  ["create", "@/missing.json"],
  ["create", "@/config.json"],
  ["info"],
  ["counters"],
  ["boot"],
  ["boot"],
  ["pause"],
  ["resume"],
  ["add-disk", "path=@/disk,image_type=raw,id=d"],
  ["add-disk", "path=@/missing"],
  ["add-disk", "x=1"],
  ["remove-device", "none"],
  ["resize", "--cpus", "1"],
  ["resize"],
  ["resize-zone", "--id", "z", "--size", "1M"],
  ["snapshot", "nonsense"],
  ["restore", "source_url=file:///nonexistent"],
  ["power-button"],
  ["reboot"],
  ["shutdown"],
  ["delete"],
  ["delete"],
];

/** Lines of the original's log, which have no counterpart. */
const FATAL = /^\[[^\]]* ERROR cloud_hypervisor\] Fatal error: .*\n/gm;
const LOG_TIME = /^\[[^ ]*Z /gm;

interface Answer {
  readonly call: string;
  readonly code: number;
  readonly stdout: unknown;
  readonly stderr: string;
}

async function life(client: ProgramName, server: ProgramName, calls = CALLS): Promise<Answer[]> {
  await using bus = await MessageBus.start();
  await using vm = await bus.startVm(server);
  await Deno.writeFile(`${vm.directory}/kernel`, pvhElf(HALT));
  await Deno.writeFile(`${vm.directory}/disk`, new Uint8Array(MIB));
  const config = {
    payload: { kernel: `${vm.directory}/kernel` },
    memory: { size: 64 * MIB },
    serial: { mode: "Null" },
    console: { mode: "Off" },
  };
  await Deno.writeTextFile(`${vm.directory}/config.json`, JSON.stringify(config));
  const answers: Answer[] = [];
  const ask = async (place: string[], call: readonly string[]) => {
    const args = call.map((word) => word.replaceAll("@", vm.directory));
    const result = await bus.run(programPath(client)!, [...place, ...args]);
    const plain = (text: string) =>
      text.replaceAll(vm.directory, "@").replace(/"pid":\d+/, '"pid":0').replace('"guest_debug",', "");
    const stdout = plain(result.stdout);
    answers.push({
      call: call.join(" "),
      code: result.code,
      stdout: stdout.startsWith("{") ? JSON.parse(stdout) : stdout,
      stderr: plain(result.stderr).replaceAll(FATAL, "").replaceAll(LOG_TIME, "["),
    });
  };
  const place = ["--dbus-service-name", SERVICE, "--dbus-object-path", OBJECT];
  await ask(["--dbus-service-name", "not.there", "--dbus-object-path", OBJECT], ["ping"]);
  await ask(["--dbus-service-name", "no name", "--dbus-object-path", OBJECT], ["ping"]);
  await ask(["--dbus-service-name", SERVICE, "--dbus-object-path", "no path"], ["ping"]);
  await ask(["--dbus-service-name", SERVICE], ["ping"]);
  await ask([...place, "--api-socket", "/nonexistent"], ["ping"]);
  for (const call of calls) await ask(place, call);
  return answers;
}

testWith(NEEDS, "remote over D-Bus: each client on each server says the same", async () => {
  const theirs = await life("reference-remote", "reference");
  assert.deepEqual(await life("ch-remote", "reference"), theirs, "our client, the original's server");
  assert.deepEqual(await life("reference-remote", "cloud-hypervisor"), theirs, "its client, our server");
  assert.deepEqual(await life("ch-remote", "cloud-hypervisor"), theirs, "our client, our server");
});

testWith(
  { binary: true, kvm: true, commands: BUS_COMMANDS },
  "remote over D-Bus: what the original does not get right",
  async () => {
    const calls = [["create", "@/config.json"], ["boot"], ["nmi"], [
      "resize-disk",
      "--disk",
      "d",
      "--size",
      "1M",
    ], ["shutdown-vmm"]];
    const answers = (await life("ch-remote", "cloud-hypervisor", calls)).slice(-3);
    assert.deepEqual(answers.map(({ code }) => code), [0, 1, 0]);
    assert.ok(answers[1].stderr.includes("The disk could not be resized"), answers[1].stderr);
  },
);
