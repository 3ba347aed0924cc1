/**
 * Conversations: what a known client of the original says to its VMM, start to end, with real VMs.
 *
 * Each one is carried on twice, with Nephos under its drop-in name and, where REFERENCE_VMM is set, with the original.
 * What the client reads is written down by `talk.read`; both must have read the same, and what may differ says why.
 * Source: spec/consumers.md and the clients' own sources.
 *
 * @module
 */

import assert from "node:assert/strict";
import { isDeepStrictEqual } from "node:util";
import { missing, type Needs, programPath } from "@tests/framework/programs.ts";
import { Vm, type VmOptions } from "@tests/framework/vm.ts";

/** Something the client read. */
interface Reading {
  label: string;
  value: unknown;
  /** Why the original's may be another; undefined: it may not. */
  differs?: string;
}

const BOTH = ["cloud-hypervisor", "reference"] as const;

/** One carrying-on of a conversation. */
export class Talk implements AsyncDisposable {
  readonly readings: Reading[] = [];
  readonly #vms: Vm[] = [];

  constructor(readonly program: typeof BOTH[number], readonly directory: string) {}

  /** True with the original: for the few things it does that Nephos does not do yet. */
  get original(): boolean {
    return this.program === "reference";
  }

  /** The file to start as VMM. */
  get executable(): string {
    return programPath(this.program)!;
  }

  /** The file to start as remote client. */
  get remote(): string {
    return programPath(this.original ? "reference-remote" : "ch-remote")!;
  }

  /** Starts the VMM with exactly these arguments; `prefix` is a command that ends by starting its arguments. */
  async start(args: string[], options: VmOptions & { prefix?: string[] } = {}): Promise<Vm> {
    const { prefix = [], ...rest } = options;
    const [path, ...before] = [...prefix, this.executable];
    const vm = await Vm.start({
      program: this.program,
      api: false,
      ...rest,
      path,
      args: [...before, ...args],
    });
    this.#vms.push(vm);
    return vm;
  }

  /** Writes down what the client read. @param differs why the original's may be another */
  read<T>(label: string, value: T, differs?: string): T {
    this.readings.push({ label, value: this.#plain(value), differs });
    return value;
  }

  /** What differs between any two processes goes: directories, process ids, descriptor numbers, terminals. */
  #plain(value: unknown): unknown {
    let text = JSON.stringify(value) ?? "null";
    text = text.replaceAll(this.directory, "{dir}").replace(/\/dev\/pts\/\d+/g, "{pty}");
    for (const vm of this.#vms) text = text.replaceAll(vm.directory, "{dir}");
    text = text.replace(/nephos-puppet-[0-9a-f]+/g, "{guest}");
    return JSON.parse(text, (key, item) => key === "pid" ? "{pid}" : key === "fds" ? item?.length : item);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const vm of this.#vms) await vm[Symbol.asyncDispose]();
    await Deno.remove(this.directory, { recursive: true });
  }
}

/** Carries a conversation on with both programs and compares what was read. */
export function conversation(name: string, needs: Needs, tell: (talk: Talk) => Promise<void>): void {
  const reason = missing({ kvm: true, binary: true, ...needs });
  const alone = missing({ reference: true });
  const suffix = reason ? ` (skipped: ${reason})` : alone ? ` (not compared: ${alone})` : "";
  const carryOn = async (program: typeof BOTH[number]): Promise<Reading[]> => {
    await using talk = new Talk(program, await Deno.makeTempDir({ prefix: "nephos-talk-" }));
    await tell(talk);
    return talk.readings;
  };
  Deno.test({
    name: name + suffix,
    ignore: reason !== undefined,
    fn: async (test) => {
      let ours: Reading[] = [];
      const done = await test.step("with Nephos", async () => {
        ours = await carryOn("cloud-hypervisor");
      });
      if (!done || alone) return;
      await test.step("with the original, which reads the same", async () => {
        const theirs = await carryOn("reference");
        assert.deepEqual(ours.map(({ label }) => label), theirs.map(({ label }) => label));
        const pairs = ours.map((reading, index) => ({ ...reading, original: theirs[index].value }));
        const others = pairs.filter(({ value, original, differs }) =>
          differs === undefined && !isDeepStrictEqual(value, original)
        );
        assert.deepEqual(
          others.map(({ label, value }) => ({ label, value })),
          others.map(({ label, original }) => ({ label, value: original })),
        );
      });
    },
  });
}
