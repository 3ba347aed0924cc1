/**
 * The socket device on both programs: the same packets and lines get the same answers, the same paths the same errors.
 *
 * What is meant to differ (docs/differences.md) is left out here: a socket file nobody listens on, packets longer than their
 * buffers, requests for credit, which only Nephos makes, and time limits, which it keeps by itself.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { eventually } from "@tests/framework/deadline.ts";
import { type ProgramName, testWith } from "@tests/framework/programs.ts";
import { Puppet } from "@tests/framework/puppet.ts";
import { Vm } from "@tests/framework/vm.ts";
import {
  HostService,
  HostStream,
  NO_RECEIVE,
  NO_SEND,
  OP,
  type ReceivedPacket,
  type SentPacket,
  VsockDriver,
} from "@tests/framework/vsock_driver.ts";

const NEEDS = { kvm: true, binary: true, reference: true };
const CID = 7;
const LONGEST_PATH = 107;
/** A connection nobody has: what is sent to it is answered by a reset, behind everything that was due before. */
const NOBODY = { guestPort: 0xffff_0000, hostPort: 0xffff_0001 };

const NAMES = new Map(Object.entries(OP).map(([name, number]) => [number as number, name]));

function show(
  { op, hostPort, guestPort, length, flags, type, srcCid, dstCid, text }: ReceivedPacket,
): string {
  return `${
    NAMES.get(op) ?? op
  } ${srcCid}:${hostPort}>${dstCid}:${guestPort} ${length} ${flags} ${type} "${text}"`;
}

/** A VM of one program, and what was seen on it. */
class Witness implements AsyncDisposable {
  readonly seen: string[] = [];

  private constructor(readonly vm: Vm, readonly puppet: Puppet, readonly vsock: VsockDriver) {}

  static async start(program: ProgramName): Promise<Witness> {
    const puppet = await Puppet.make(128 << 20);
    const vm = await Vm.start({
      program,
      args: [...puppet.args(), "--vsock", `cid=${CID},socket={dir}/v`],
    });
    await puppet.started();
    return new Witness(vm, puppet, await VsockDriver.start(puppet, { insists: program === "reference" }));
  }

  get socket(): string {
    return join(this.vm.directory, "v");
  }

  /** Everything the guest has got so far; a reset of ours marks the end of it. */
  async settle(): Promise<ReceivedPacket[]> {
    await this.vsock.send({ op: OP.RW, ...NOBODY, data: "x" });
    const packets: ReceivedPacket[] = [];
    for (;;) {
      const packet = await this.vsock.receive();
      if (packet.hostPort === NOBODY.hostPort) return packets;
      packets.push(packet);
    }
  }

  /** Sends packets and writes down what comes back at once. */
  async exchange(...packets: SentPacket[]): Promise<void> {
    await this.vsock.send(...packets);
    for (const packet of await this.settle()) {
      if (packet.op !== OP.CREDIT_REQUEST) this.seen.push(show(packet));
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.vm[Symbol.asyncDispose]();
    await this.puppet[Symbol.asyncDispose]();
  }
}

type Scenario = (witness: Witness) => Promise<void>;

/** A service of the host, connected to the guest. */
async function connected(witness: Witness, guestPort: number, hostPort: number): Promise<HostStream> {
  using service = new HostService(witness.socket, hostPort);
  const accepted = service.accept();
  witness.seen.push(show(await witness.vsock.connect(guestPort, hostPort)));
  return await accepted;
}

const LINES = [
  ...["CONNECT 1024\n", "connect 1024\n", "Connect 7\n", "cOnNeCt 7\n", "CONNECT 1024\r\n", "CONNECT  7\n"],
  ...[" CONNECT 7\n", "CONNECT 7 \n", "CONNECT 7 8\n", "CONNECT +7\n", "CONNECT -7\n", "CONNECT 0x7\n"],
  ...[
    "CONNECT 0\n",
    "CONNECT 4294967295\n",
    "CONNECT 4294967296\n",
    "CONNECT\n",
    "CONNECT \n",
    "\n",
    "HELLO 5\n",
  ],
  ...["CONNECT\t7\n", "CONNECT 00000000000000007\n", "CONNECT 000000000000000000000007\n", "CONNECT 7.0\n"],
  ...[
    "CONNECT 7\nhello",
    "CONNECT 7\n\n",
    "CONNECT 1e3\n",
    "CONNECT 1_0\n",
    "CONNECT \u0663\n",
    "\0CONNECT 7\n",
  ],
];

const SCENARIOS: Record<string, Scenario> = {
  async "packets for nobody"(witness) {
    for (const op of [...Object.values(OP), 0, 8, 99, 0xffff]) {
      await witness.exchange({ op, guestPort: 1002, hostPort: 5001 });
    }
    for (const type of [0, 2, 9]) {
      await witness.exchange({ op: OP.REQUEST, guestPort: 1003, hostPort: 5001, type });
      await witness.exchange({ op: OP.RW, guestPort: 1003, hostPort: 5001, type, data: "x" });
    }
    for (const op of [OP.REQUEST, OP.RW]) {
      await witness.exchange({ op, guestPort: 1003, hostPort: 5001, dstCid: 9 });
    }
  },
  async "a connection of the guest"(witness) {
    const ports = { guestPort: 1010, hostPort: 5010 };
    using host = await connected(witness, 1010, 5010);
    await witness.exchange({ op: OP.RW, ...ports, data: "hello" });
    witness.seen.push(await host.read(5));
    await witness.exchange({ op: OP.CREDIT_REQUEST, ...ports });
    await witness.exchange({ op: OP.RW, ...ports });
    await witness.exchange({ op: OP.RW, ...ports, data: "abc", length: 2 });
    witness.seen.push(await host.read(2));
    await host.write("world");
    witness.seen.push(show(await witness.vsock.receive()));
    await witness.exchange({ op: 99, ...ports });
    await witness.exchange({ op: OP.RESPONSE, ...ports });
    await witness.exchange({ op: OP.RST, ...ports });
    witness.seen.push(await host.end());
    await witness.exchange({ op: OP.RW, ...ports, data: "late" });
  },
  async "the guest closes"(witness) {
    for (
      const [index, flags] of [[NO_SEND, NO_RECEIVE], [NO_RECEIVE, NO_SEND], [NO_RECEIVE | NO_SEND]].entries()
    ) {
      const ports = { guestPort: 1020 + index, hostPort: 5020 };
      using host = await connected(witness, ports.guestPort, 5020);
      await witness.vsock.send({ op: OP.RW, ...ports, data: "last" });
      for (const flag of flags) await witness.exchange({ op: OP.SHUTDOWN, ...ports, flags: flag });
      witness.seen.push(await host.read(4), await host.end());
    }
  },
  async "the guest's wrong context id is of no account"(witness) {
    using service = new HostService(witness.socket, 5030);
    const accepted = service.accept();
    witness.seen.push(show(await witness.vsock.connect(1030, 5030, { srcCid: 99 })));
    (await accepted).close();
    await witness.vsock.receive();
    await witness.vsock.send({ op: OP.RST, guestPort: 1030, hostPort: 5030 });
    await witness.settle();
  },
  async "lines of programs"(witness) {
    for (const line of LINES) {
      using program = await HostStream.connect(witness.socket);
      await program.write(line);
      let answer: string | undefined;
      const reading = program.line().catch(() => "").then((text) => answer = text);
      const request = await eventually("a request, or the end of the program's stream", async () => {
        return answer ?? await witness.vsock.poll();
      });
      witness.seen.push(JSON.stringify(line));
      if (typeof request !== "string") {
        const { guestPort, hostPort } = request;
        witness.seen.push(show(request));
        await witness.vsock.send({ op: OP.RST, guestPort, hostPort });
      }
      witness.seen.push(await reading);
      await witness.settle();
    }
  },
  async "a program that was answered"(witness) {
    const { stream, guestPort, hostPort } = await eventually("an accepted program", async () => {
      const stream = await HostStream.connect(witness.socket);
      await stream.write("CONNECT 16\n");
      const { guestPort, hostPort } = await witness.vsock.receive();
      await witness.vsock.send({ op: OP.RESPONSE, guestPort, hostPort });
      await witness.settle();
      if (await stream.line() === `OK ${hostPort}\n`) return { stream, guestPort, hostPort };
      stream.close(); // the device had waited long enough for this test
      return undefined;
    });
    using program = stream;
    await witness.exchange({ op: OP.RESPONSE, guestPort, hostPort });
    await witness.exchange({ op: OP.RW, guestPort, hostPort, data: "data" });
    witness.seen.push(await program.read(4));
    await witness.exchange({ op: OP.SHUTDOWN, guestPort, hostPort, flags: NO_RECEIVE | NO_SEND });
    witness.seen.push(await program.end());
  },
};

testWith(NEEDS, "socket device: the same packets and lines get the same answers", async () => {
  const seen: Record<string, string[]>[] = [];
  for (const program of ["reference", "nephos"] as const) {
    await using witness = await Witness.start(program);
    const here: Record<string, string[]> = {};
    for (const [name, run] of Object.entries(SCENARIOS)) {
      await run(witness);
      here[name] = witness.seen.splice(0);
    }
    seen.push(here);
  }
  assert.deepEqual(seen[1], seen[0]);
  assert.ok(Object.values(seen[0]).flat().length > 100);
});

/** Paths of sockets, made from the VM's directory, after something was put there. */
const PATHS: Record<string, (directory: string) => Promise<string> | string> = {
  "a new one": (directory) => join(directory, "v"),
  "an empty one": () => "",
  "in a folder that is not there": (directory) => join(directory, "none", "v"),
  "a folder": async (directory) => {
    await Deno.mkdir(join(directory, "v"));
    return join(directory, "v");
  },
  "a file": async (directory) => {
    await Deno.writeTextFile(join(directory, "v"), "mine");
    return join(directory, "v");
  },
  "below a file": async (directory) => {
    await Deno.writeTextFile(join(directory, "f"), "mine");
    return join(directory, "f", "v");
  },
  "a link to nothing": async (directory) => {
    await Deno.symlink(join(directory, "w"), join(directory, "v"));
    return join(directory, "v");
  },
  "in use": (directory) => join(directory, "api.sock"),
  "the longest": (directory) => join(directory, "v".repeat(LONGEST_PATH - 1 - directory.length)),
  "too long": (directory) => join(directory, "v".repeat(LONGEST_PATH - directory.length)),
};

testWith(NEEDS, "socket device: the same paths give the same errors, files and descriptions", async () => {
  await using puppet = await Puppet.make();
  for (const [name, make] of Object.entries(PATHS)) {
    const seen = [];
    for (const program of ["reference", "nephos"] as const) {
      await using vm = await Vm.start({ program });
      const here: unknown[] = [];
      const files = async () => {
        const names = [];
        for await (const entry of Deno.readDir(vm.directory)) {
          // How long the longest name is depends on the directory's, which is not always as long.
          const name = entry.name.replace(/^vv+$/, "vv");
          names.push([name, entry.isDirectory, entry.isFile, entry.isSymlink]);
        }
        here.push(names.sort());
      };
      const put = async (endpoint: string, body?: unknown) => {
        const answer = await vm.api.put(endpoint, body);
        here.push(endpoint, answer.status, answer.body.replaceAll(vm.directory, "DIR"));
        await files();
      };
      const vsock = { cid: CID, socket: await make(vm.directory) };
      await put("vm.create", puppet.config({ vsock }));
      await put("vm.boot");
      await put("vm.reboot");
      await put("vm.shutdown");
      await put("vm.delete");
      // the same as a hot-plug
      await put("vm.create", puppet.config());
      await put("vm.boot");
      await put("vm.add-vsock", vsock);
      await put("vm.add-vsock", { ...vsock, iommu: true });
      await put("vm.delete");
      seen.push(here);
    }
    assert.deepEqual(seen[1], seen[0], name);
  }
});
