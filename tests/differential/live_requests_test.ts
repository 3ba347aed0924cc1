/**
 * Requests to a VM that runs, beside the original: the same bodies to both, the same answers and configurations.
 *
 * `DIFFERENTIAL_SEED` is where it begins, `DIFFERENTIAL_CASES` how many bodies each endpoint gets.
 */
import assert from "node:assert/strict";
import { isDeepStrictEqual } from "node:util";
import type { OperationWithBody } from "@vmm/api/body_reader.ts";
import { NetworkNamespace } from "@tests/framework/netns.ts";
import { HttpConnection } from "@tests/framework/http_client.ts";
import { programPath, testWith } from "@tests/framework/programs.ts";
import { Vm } from "@tests/framework/vm.ts";
import { Random } from "./bodies.ts";
import { makeFiles, randomBody, runningConfig, waitsForOthers } from "./live_bodies.ts";

const SEED = Number(Deno.env.get("DIFFERENTIAL_SEED") ?? 1);
/** Bodies per endpoint. */
const CASES = Number(Deno.env.get("DIFFERENTIAL_CASES") ?? 15);
/** Bodies before both VMs begin anew: what passed piles up. */
const CASES_PER_VM = 10;

const OPERATIONS: readonly OperationWithBody[] = [
  "vm.resize",
  "vm.resize-zone",
  "vm.resize-disk",
  "vm.add-disk",
  "vm.add-pmem",
  "vm.add-net",
  "vm.add-vsock",
  "vm.remove-device",
  "vm.snapshot",
  "vm.coredump",
  "vm.send-migration",
  "vm.restore",
];

/** Answers of ours that may be others: what is not there yet, what is refused when it is read, what names the file. */
const MEANT = [/not supported|Not supported by this version/, /expected usize below 2\^53/];

/** Our errors name the interface they are about, the original's the number of a call. */
const plain = (answer: string) =>
  answer.replace(/ \(interface=[^)]*\)/g, "").replace(/"Ioctl failed \(\d+\)",/g, "");

/** One of the two programs, in a directory of its own. */
class Side implements AsyncDisposable {
  private constructor(readonly vm: Vm, readonly directory: string) {}

  static async start(program: "cloud-hypervisor" | "reference", netns: string): Promise<Side> {
    const directory = await Deno.makeTempDir({ prefix: "nephos-live-" });
    await makeFiles(directory);
    const args = ["-C", directory, programPath(program)!, "--api-socket", "{dir}/api.sock"];
    const vm = await Vm.start({ path: "env", program, api: false, args, netns });
    await vm.waitForApi();
    return new Side(vm, directory);
  }

  async ask(method: string, operation: string, body?: string): Promise<string> {
    using connection = await HttpConnection.open(this.vm.api.socketPath);
    const answer = await connection.request(method, `/api/v1/${operation}`, body);
    return `${answer.status} ${answer.body}`;
  }

  /** State, configuration and devices; what is numbered by chance goes. */
  async info(): Promise<{ config?: unknown }> {
    const text = await this.ask("GET", "vm.info");
    assert.match(text, /^200 /);
    return JSON.parse(text.slice(4), (key, value) => key === "mac" ? "{mac}" : value);
  }

  async reset(): Promise<void> {
    await this.ask("PUT", "vm.delete");
    await makeFiles(this.directory);
    for (const name of ["vsock", "a", "disk0_"]) {
      await Deno.remove(`${this.directory}/${name}`).catch(() => {});
    }
    assert.match(await this.ask("PUT", "vm.create", JSON.stringify(runningConfig())), /^204/);
    assert.match(await this.ask("PUT", "vm.boot"), /^204/);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.vm[Symbol.asyncDispose]();
    await Deno.remove(this.directory, { recursive: true });
  }
}

const needs = { kvm: true, binary: true, reference: true, root: true, commands: ["ip"] };

for (const operation of OPERATIONS) {
  testWith(needs, `REST beside the original: ${operation} on a VM that runs`, async () => {
    await using ourNetwork = await NetworkNamespace.create();
    await using theirNetwork = await NetworkNamespace.create();
    const random = new Random(SEED);
    const differences: unknown[] = [];
    let sides: Side[] = [];
    try {
      for (let index = 0; index < CASES; index++) {
        if (index % CASES_PER_VM === 0 || sides.some(({ vm }) => vm.exit !== undefined)) {
          for (const side of sides) await side[Symbol.asyncDispose]();
          sides = [
            await Side.start("cloud-hypervisor", ourNetwork.name),
            await Side.start("reference", theirNetwork.name),
          ];
          for (const side of sides) await side.reset();
        }
        const body = randomBody(operation, random);
        if (body === "" || waitsForOthers(operation, body)) continue;
        const [ours, theirs] = [
          await sides[0].ask("PUT", operation, body),
          await sides[1].ask("PUT", operation, body).catch(String),
        ];
        if (!theirs.match(/^\d/)) continue; // it did not survive this one
        // What is not there yet checks its input and the state as well: a refusal of those is no other.
        const meant = !theirs.startsWith("4") && MEANT.some((pattern) => pattern.test(ours));
        if (plain(ours) !== plain(theirs) && !meant) differences.push({ body, ours, theirs });
        const [mine, its] = [await sides[0].info(), await sides[1].info()];
        const refused = !ours.startsWith("2");
        // What the original leaves behind after a refusal: a node of the device tree, a VM that stays paused.
        const isSame = refused ? isDeepStrictEqual(mine.config, its.config) : isDeepStrictEqual(mine, its);
        if (!isSame && !meant) differences.push({ body, ours, mine, its });
        if (meant || !isDeepStrictEqual(mine, its)) { for (const side of sides) await side.reset(); }
      }
    } finally {
      for (const side of sides) await side[Symbol.asyncDispose]();
    }
    assert.deepEqual(differences, []);
  });
}
