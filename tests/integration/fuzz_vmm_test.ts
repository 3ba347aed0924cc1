/**
 * Random requests to a running VMM with a real VM: it answers each one, goes on, and is as before after one it refused.
 *
 * Bodies are made from the schemas, valid ones and damaged ones, and from what clients really send with members exchanged.
 * `FUZZ_SEED` is where it begins, `FUZZ_MS` how long it goes on, a few seconds unless set.
 */
import assert from "node:assert/strict";
import { type OperationWithBody, readBody } from "@vmm/api/body_reader.ts";
import { ROUTES } from "@vmm/api/routes.ts";
import { VmConfigSchema } from "@schemas/api/vm_config.ts";
import { readJson } from "@schemas/json/reader.ts";
import { Random } from "@tests/differential/bodies.ts";
import { makeFiles, randomBody, runningConfig, waitsForOthers } from "@tests/differential/live_bodies.ts";
import { DeadlineError, eventually, HOST_TIMEOUT_MS } from "@tests/framework/deadline.ts";
import { HttpConnection, type HttpResponse } from "@tests/framework/http_client.ts";
import { NetworkNamespace } from "@tests/framework/netns.ts";
import { type ProgramName, programPath, testWith } from "@tests/framework/programs.ts";
import { Vm } from "@tests/framework/vm.ts";

const FUZZ_MS = Number(Deno.env.get("FUZZ_MS") ?? 3000);
const SEED = Number(Deno.env.get("FUZZ_SEED") ?? 1);
const MIB = 1 << 20;

const WITH_BODY = ROUTES.filter(({ body }) => body === "required").map(({ operation }) =>
  operation as OperationWithBody
);
/** These end the program or the VM, or move it to another situation, which the test does itself; this guest dies of an NMI. */
const MOVES = [
  "vm.nmi",
  "vmm.shutdown",
  "vm.delete",
  "vm.boot",
  "vm.shutdown",
  "vm.reboot",
  "vm.pause",
  "vm.resume",
];
/** What may come in any order after a boot. */
const AFTER_BOOT = [
  "vm.pause",
  "vm.resume",
  "vm.reboot",
  "vm.shutdown",
  "vm.boot",
  "vm.nmi",
  "vm.power-button",
];
/** More vCPUs or memory than this is not booted: the host has other things to do. */
const MOST_VCPUS = 4;
const MOST_MEMORY_BYTES = 512 * MIB;
/** Requests an error message shows. */
const SHOWN_REQUESTS = 5;
/** Descriptors that come and go while a program warms up: connections, Workers of the pool. */
const SPARE_DESCRIPTORS = 12;

type Situation = "absent" | "created" | "running" | "paused";
const SITUATIONS: readonly Situation[] = ["absent", "created", "running", "paused"];

/** One program under fire. */
class Target implements AsyncDisposable {
  readonly recent: string[] = [];

  private constructor(readonly vm: Vm, readonly directory: string) {}

  static async start(program: ProgramName, netns: string): Promise<Target> {
    const directory = await Deno.makeTempDir({ prefix: "nephos-fuzz-" });
    await makeFiles(directory);
    const path = programPath(program)!;
    const vm = await Vm.start({
      path: "env",
      program,
      api: false,
      netns,
      args: ["-C", directory, path, "--api-socket", "{dir}/api.sock"],
    });
    await vm.waitForApi();
    return new Target(vm, directory);
  }

  /** Sends a request and takes its answer, or fails when there is none. */
  async request(method: string, operation: string, body?: string): Promise<HttpResponse> {
    this.recent.push(`${method} ${operation} ${body ?? ""}`);
    if (this.recent.length > SHOWN_REQUESTS) this.recent.shift();
    using connection = await HttpConnection.open(this.vm.api.socketPath);
    let timer: ReturnType<typeof setTimeout> | undefined;
    const silence = new Promise<never>((_, reject) => {
      timer = setTimeout(() => {
        this.vm.kill("SIGKILL"); // ends the read below
        reject(new DeadlineError(`No answer to ${method} ${operation} ${body ?? ""}`));
      }, HOST_TIMEOUT_MS);
    });
    try {
      const answer = connection.request(method, `/api/v1/${operation}`, body);
      answer.catch(() => {});
      return await Promise.race([answer, silence]);
    } finally {
      clearTimeout(timer);
    }
  }

  async must(operation: string, body?: string): Promise<void> {
    const { status, body: text } = await this.request("PUT", operation, body);
    assert(status < 300, `${operation} answered ${status} ${text}`);
  }

  async info(): Promise<string> {
    const { status, body } = await this.request("GET", "vm.info");
    return `${status} ${body}`;
  }

  async reach(situation: Situation): Promise<void> {
    await this.must("vm.delete");
    if (situation === "absent") return;
    await this.must("vm.create", JSON.stringify(runningConfig()));
    if (situation === "created") return;
    await this.must("vm.boot");
    if (situation === "paused") await this.must("vm.pause");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.vm[Symbol.asyncDispose]();
    await Deno.remove(this.directory, { recursive: true });
  }
}

/** An answer has a known status; an error says why, in a list of texts, and blames whom it has to. */
function checkAnswer({ status, body, header }: HttpResponse): void {
  assert([200, 204, 400, 404, 409, 429, 500].includes(status), `status ${status}`);
  if (status < 400 || body === "") return;
  assert.match(header("content-type") ?? "", /^application\/json/);
  const chain = JSON.parse(body);
  assert(Array.isArray(chain) && chain.length > 0, body);
  for (const text of chain) {
    assert(typeof text === "string" && text !== "", body);
    assert.doesNotMatch(text, /Internal error|TypeError|RangeError|undefined|\[object |NaN/, body);
  }
  const isClients = /Failed to deserialize|Failed to validate config|^\["Bad Request"\]/.test(body);
  if (isClients) assert(status === 400 || status === 409, `${status} ${body}`);
}

/** What is shown can be created again. */
function checkInfo(text: string): void {
  if (!text.startsWith("200 ")) return;
  const { config: shown, state } = JSON.parse(text.slice(4));
  assert(["Created", "Running", "Paused"].includes(state), state);
  const again = readJson(VmConfigSchema, JSON.stringify(shown));
  assert(again.ok, again.ok ? "" : again.message);
}

/** True if the created VM is one this host may boot, and its devices need no other programs. */
function mayBoot(info: string): boolean {
  const { config: shown } = JSON.parse(info.slice(4));
  const { cpus, memory, fs, disks = [], net = [], tpm, user_devices: users, generic_vhost_user: generic } =
    shown;
  const zones: { size: number }[] = memory.zones ?? [];
  const bytes = zones.reduce((sum, { size }) => sum + size, memory.size);
  const needsOthers = fs || tpm || users || generic || shown["generic-vhost-user"] ||
    [...disks, ...net].some(({ vhost_user }: { vhost_user?: boolean }) => vhost_user);
  return cpus.boot_vcpus <= MOST_VCPUS && bytes <= MOST_MEMORY_BYTES && !needsOthers && !shown.gdb;
}

async function step(target: Target, random: Random, situation: Situation): Promise<void> {
  const before = await target.info();
  if (random.chance(0.1)) {
    const method = random.pick(["GET", "PUT", "PATCH", "DELETE"]);
    const { operation } = random.pick(ROUTES.filter((route) => !MOVES.includes(route.operation)));
    const body = random.pick([undefined, "", "{}", "null", "[", '"x"']);
    if (waitsForOthers(operation, body ?? "")) return;
    const answer = await target.request(method, operation, body);
    if (answer.body.startsWith("{")) return;
    checkAnswer(answer);
    if (answer.status >= 400) assert.equal(await target.info(), before);
    return;
  }
  const operation = situation === "absent" && random.chance(0.4) ? "vm.create" : random.pick(WITH_BODY);
  const body = randomBody(operation, random);
  if (body === "") return;
  const isLive = situation === "running" || situation === "paused";
  const readable = readBody(operation, new TextEncoder().encode(body));
  if (readable.ok && waitsForOthers(operation, body) && (isLive || operation === "vm.receive-migration")) {
    return;
  }
  const answer = await target.request("PUT", operation, body);
  checkAnswer(answer);
  const after = await target.info();
  checkInfo(after);
  if (!readable.ok) assert.equal(answer.status, 400, `${answer.status} ${answer.body}: ${readable.message}`);
  // Of a resize with several parts those before the failure stay, as documented.
  if (answer.status >= 400 && operation !== "vm.resize") assert.equal(after, before, answer.body);
  if (operation === "vm.create" && answer.status < 300 && mayBoot(after)) {
    const boot = await target.request("PUT", "vm.boot");
    checkAnswer(boot);
    checkInfo(await target.info());
    checkAnswer(await target.request("GET", "vm.counters"));
    for (let moves = random.below(4); moves > 0; moves--) {
      checkAnswer(await target.request("PUT", random.pick(AFTER_BOOT)));
    }
  }
}

for (const program of ["cloud-hypervisor", "nephos"] as const) {
  testWith(
    { kvm: true, binary: true, root: true, commands: ["ip"] },
    `${program}: random requests are answered and refused ones change nothing (FUZZ_SEED=${SEED})`,
    async () => {
      const random = new Random(SEED);
      await using network = await NetworkNamespace.create(); // for the taps of random networks
      await using target = await Target.start(program, network.name);
      let situation: Situation = "absent";
      for (let round = 0; round < 2; round++) await target.reach("running"); // what lasts is there from now on
      await target.reach("absent");
      const most = (await target.vm.descriptorsAtRest()).size + SPARE_DESCRIPTORS;
      let steps = 0;
      try {
        for (const end = performance.now() + FUZZ_MS; performance.now() < end; steps++) {
          if (steps % 25 === 0) {
            await target.reach("absent");
            let open = (await target.vm.descriptors()).size;
            // Workers of the last VM wait a while for a next one.
            if (open > most) open = (await target.vm.descriptorsAtRest()).size;
            assert(open <= most, `${open} descriptors without a VM`);
            situation = random.pick(SITUATIONS);
            await target.reach(situation);
          }
          await step(target, random, situation);
          // A body that passed by chance has moved it.
          if (situation === "absent" && !(await target.info()).startsWith("404 ")) {
            await target.reach("absent");
          }
        }
        assert(steps > 0);
        await target.reach("running");
        await target.must("vmm.shutdown");
        assert.deepEqual(await target.vm.waitForExit(), { code: 0, signal: null });
        await eventually(
          "no words of a crash",
          () => !/panic|Internal error|TypeError/.test(target.vm.stderr.text),
        );
      } catch (error) {
        const log = target.vm.stderr.text.slice(-1500);
        const requests = target.recent.join("\n");
        throw new Error(
          `Failed at step ${steps} of FUZZ_SEED=${SEED}, ${situation}; last requests:\n${requests}\n${log}`,
          { cause: error },
        );
      }
    },
  );
}
