/** The TPM: registers of the command response buffer, commands to a real swtpm. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { Daemon } from "@tests/framework/daemons.ts";
import { eventually } from "@tests/framework/deadline.ts";
import { Puppet } from "@tests/framework/puppet.ts";
import { betterTest, guestTest, IS_REFERENCE, startVm } from "./subject.ts";

const NEEDS = { commands: ["swtpm"] };
const TPM_GPA = 0xfed4_0000;
const LOC_CONTROL = 0x08;
const REQUEST = 0x40;
const STATUS = 0x44;
const START = 0x4c;
const DATA = 0x80;

/** TPM2_GetRandom for eight bytes. */
const GET_RANDOM = [0x80, 1, 0, 0, 0, 12, 0, 0, 1, 0x7b, 0, 8];

/** Registers of the TPM in a puppet's address space. */
class Crb {
  private constructor(readonly puppet: Puppet, readonly base: number) {}

  static async of(puppet: Puppet): Promise<Crb> {
    return new Crb(puppet, await puppet.map(TPM_GPA));
  }

  /** Writes registers. */
  async set(...writes: [register: number, value: number][]): Promise<void> {
    await this.puppet.run(...writes.map(([at, value]) => ["writel", this.base + at, value] as const));
  }

  /** Reads registers. */
  get(...registers: number[]): Promise<number[]> {
    return this.puppet.run(...registers.map((at) => ["readl", this.base + at] as const));
  }

  /** Carries out a command; returns `length` bytes of what is in the buffer then. */
  async execute(command: number[], length: number): Promise<number[]> {
    const bytes = command.map((byte, i) => ["writeb", this.base + DATA + i, byte] as const);
    await this.puppet.run(...bytes, ["writel", this.base + START, 1]);
    await eventually("the end of a TPM command", async () => (await this.get(START))[0] === 0);
    return await this.puppet.run(
      ...Array.from({ length }, (_, i) => ["readb", this.base + DATA + i] as const),
    );
  }
}

guestTest("the TPM's registers and a command through them", async () => {
  await using puppet = await Puppet.make();
  await using swtpm = await Daemon.tpm(puppet.directory);
  await using vm = await startVm({ args: [...puppet.args(), "--tpm", `socket=${swtpm.socket}`] });
  await puppet.started();
  const crb = await Crb.of(puppet);
  const all = Array.from({ length: DATA / 4 }, (_, i) => 4 * i);
  const shown = (values: number[]) =>
    Object.fromEntries(
      values.map((value, i) => [all[i].toString(16), value]).filter(([, value]) => value !== 0),
    );
  const address = TPM_GPA + DATA;
  const fixed = { 30: 0x2_5811, 34: 0x1014, 58: 0xf80, "5c": address, 64: 0xf80, 68: address };
  assert.deepEqual(shown(await crb.get(...all)), { 0: 0x80, 44: 2, ...fixed });
  await crb.set([LOC_CONTROL, 1], [REQUEST, 1], [0, ~0], [0x30, ~0], [STATUS, ~0], [0x50, ~0]);
  assert.deepEqual(shown(await crb.get(...all)), { 0: 0x82, c: 1, ...fixed });

  const answer = await crb.execute(GET_RANDOM, 32);
  assert.deepEqual(answer.slice(0, 12), [0x80, 1, 0, 0, 0, 20, 0, 0, 0, 0, 0, 8]);
  assert.ok(answer.slice(12, 20).some((byte) => byte !== 0));
  assert.deepEqual(answer.slice(20), Array(12).fill(0));
  assert.notDeepEqual(await crb.execute(GET_RANDOM, 20), answer.slice(0, 20));
  // Lengths that no command can have.
  for (const length of [[0, 0, 0, 4], [0, 0, 0xff, 0xff]]) {
    const refused = await crb.execute([0x80, 1, ...length, 0, 0, 1, 0x7b, 0, 8], 10);
    assert.deepEqual(refused, [0x80, 1, 0, 0, 0, 10, 0, 0, 1, 0x42]);
  }
  // Without the locality nothing starts.
  await crb.set([LOC_CONTROL, 2], [START, 1]);
  assert.deepEqual(await crb.get(START), [0]);
  await vm.stop();
}, NEEDS);

guestTest("a TPM that dies leaves a guest and an API that go on", async () => {
  await using puppet = await Puppet.make();
  await using swtpm = await Daemon.tpm(puppet.directory);
  await using vm = await startVm({ args: [...puppet.args(), "--tpm", `socket=${swtpm.socket}`] });
  await puppet.started();
  const crb = await Crb.of(puppet);
  await crb.set([LOC_CONTROL, 1], [REQUEST, 1]);
  await swtpm.kill();
  const answer = await crb.execute(GET_RANDOM, 10);
  // The original leaves the command where the answer should be.
  if (!IS_REFERENCE) assert.deepEqual(answer, [0x80, 1, 0, 0, 0, 10, 0, 0, 1, 1]);
  assert.equal((await crb.get(STATUS))[0] & 1, 1);
  assert.equal((await vm.api.get("vmm.ping")).status, 200);
  await puppet.beats();
}, NEEDS);

betterTest("a TPM that is not there, or is none, is a clear error", "shows its insides", async () => {
  await using puppet = await Puppet.make();
  await using vm = await startVm();
  const socket = join(puppet.directory, "none");
  await vm.api.mustPut("vm.create", puppet.config({ tpm: { socket } }));
  const { status, body } = await vm.api.put("vm.boot");
  assert.equal(status, 500);
  const chain = JSON.parse(body);
  assert.equal(chain.at(-2), `Cannot create a TPM on the socket "${socket}"`);
  assert.match(chain.at(-1), /No such file/);
});
