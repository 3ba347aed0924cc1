/**
 * Runs the I/O benchmark guest (`guests/io_guest.c`) on a VMM, gives it jobs and reads its cycles.
 *
 * Benchmarks only. The guest's RAM is a file that both sides map: jobs and results go through the control words, so
 * nothing disturbs the guest while it measures.
 */
import { fileURLToPath } from "node:url";
import { run } from "../framework/command.ts";
import { Vm } from "../framework/vm.ts";

const SOURCES = fileURLToPath(new URL("guests/", import.meta.url));
const SHARED_DIRECTORY = "/dev/shm";
const POLL_MS = 5;
const DOORBELL = 0xd000_0000;

/** Numbers of `guests/io_guest.h`. */
export const C: Record<string, number> = Object.fromEntries(
  [...Deno.readTextFileSync(`${SOURCES}io_guest.h`).matchAll(/^#define (\w+) (0x[0-9a-f]+|\d+)$/gm)]
    .map(([, name, value]) => [name, Number(value)]),
);

/** Who serves the guest. `base` is another build of ours, named by NEPHOS_BASE. */
export type Server = "nephos" | "base" | "original" | "c";

/** The compiled programs. */
export interface GuestPrograms {
  readonly guest: string;
  readonly backend: string;
  readonly tapFill: string;
  readonly vsockPeer: string;
}

/** Compiles guest, back-end and helper into `directory`. @throws Error with the compiler's words */
export async function compilePrograms(directory: string): Promise<GuestPrograms> {
  const programs = {
    guest: `${directory}/io_guest.elf`,
    backend: `${directory}/minimal_backend`,
    tapFill: `${directory}/tap_fill`,
    vsockPeer: `${directory}/vsock_peer`,
  };
  const freestanding = [
    ..."-O2 -m64 -ffreestanding -nostdlib -static -fno-pic -no-pie -mcmodel=small -mno-red-zone".split(" "),
    ..."-mgeneral-regs-only -fno-stack-protector -fcf-protection=none -fno-strict-aliasing".split(" "),
    ..."-fno-asynchronous-unwind-tables -Wl,--build-id=none -Wl,--no-warn-rwx-segments".split(" "),
  ];
  const compile = (...args: string[]) => run("gcc", "-Wall", "-Wextra", "-O2", ...args);
  await Promise.all([
    compile(
      ...freestanding,
      "-T",
      `${SOURCES}io_guest.ld`,
      `${SOURCES}io_guest.S`,
      `${SOURCES}io_guest.c`,
      "-o",
      programs.guest,
    ),
    compile(`${SOURCES}minimal_backend.c`, "-o", programs.backend, "-lpthread"),
    compile(`${SOURCES}tap_fill.c`, "-o", programs.tapFill),
    compile(`${SOURCES}vsock_peer.c`, "-o", programs.vsockPeer, "-lpthread"),
  ]);
  return programs;
}

/** What the guest drives. */
export interface GuestSetup {
  readonly device: "block" | "net" | "vsock";
  /** Disk image, name of the tap, or the device's socket. */
  readonly path: string;
  readonly imageType?: string;
  readonly queues?: number;
  readonly eventIdx?: boolean;
  readonly indirect?: boolean;
  readonly interrupts?: boolean;
  /** Network namespace of the tap. */
  readonly netns?: string;
}

/** One measurement. Lengths in bytes; `blocks` is the size of the disk in blocks of 4 KiB, or the port to open. */
export interface Job {
  readonly operation: "READ" | "WRITE" | "TRANSMIT" | "RECEIVE" | "STREAM_OPEN" | "STREAM_OUT" | "STREAM_IN";
  readonly depth: number;
  readonly length: number;
  readonly count: number;
  readonly segments?: number;
  readonly blocks?: number;
  readonly random?: boolean;
  readonly stream?: boolean;
  readonly verify?: boolean;
  readonly queues?: number;
}

/** Cycles per request. `low` is the first decile: what it costs when nothing comes between. */
export interface JobResult {
  readonly low: number;
  readonly median: number;
  readonly mean: number;
  readonly errors: number;
  readonly kicksPerRequest: number;
}

const BLOCK_QUEUE_SIZE = 128;
const NET_QUEUE_SIZE = 256;
const VSOCK_CID = 3;
const DEVICES = {
  block: { type: C.DEVICE_BLOCK, queues: 1, queueSize: BLOCK_QUEUE_SIZE },
  net: { type: C.DEVICE_NET, queues: 2, queueSize: NET_QUEUE_SIZE },
  vsock: { type: C.DEVICE_VSOCK, queues: 3, queueSize: 256 },
};

/** A guest that waits for jobs. */
export class IoGuest implements AsyncDisposable {
  readonly #memory: Deno.FsFile;
  #jobs = 0;

  private constructor(
    readonly server: Server,
    private readonly memoryPath: string,
    private readonly ended: Promise<unknown>,
    private readonly dispose: () => Promise<unknown>,
    readonly pid: number,
  ) {
    this.#memory = Deno.openSync(memoryPath, { read: true, write: true });
  }

  /** Starts `server` with the guest and waits until the guest's driver is ready. */
  static async start(server: Server, programs: GuestPrograms, setup: GuestSetup): Promise<IoGuest> {
    const memoryPath = await Deno.makeTempFile({ dir: SHARED_DIRECTORY, prefix: "nephos-io-" });
    await Deno.truncate(memoryPath, C.RAM_BYTES);
    const guest = server === "c"
      ? await startBackend(memoryPath, programs, setup)
      : await startVmm(server, memoryPath, programs, setup);
    const io = new IoGuest(server, memoryPath, guest.ended, guest.dispose, guest.pid);
    try {
      await io.#setUp(setup);
    } catch (error) {
      await io[Symbol.asyncDispose]();
      throw new Error(`${server}: ${(error as Error).message} ${guest.errors()}`);
    }
    return io;
  }

  /** Has a job done. @throws Error if the guest does not answer in time */
  async run(job: Job, timeoutMs = 60_000): Promise<JobResult> {
    const flags = (job.random ? C.FLAG_RANDOM : 0) | (job.stream ? C.FLAG_STREAM : 0) |
      (job.verify ? C.FLAG_VERIFY : 0);
    this.#write(C.CTL_OPERATION, [
      C[`OP_${job.operation}`],
      job.depth,
      job.length,
      job.segments ?? 1,
      job.count,
      job.blocks ?? 0,
      flags,
      job.queues ?? 1,
    ]);
    this.#write(C.CTL_JOB, [++this.#jobs]);
    await this.#until(() => this.#read(C.CTL_DONE) === this.#jobs, timeoutMs, "does not finish its job");
    const perSample = this.#read(C.CTL_PER_SAMPLE);
    const bytes = new Uint8Array(4 * this.#read(C.CTL_SAMPLES));
    this.#memory.seekSync(C.SAMPLES_GPA, Deno.SeekMode.Start);
    this.#memory.readSync(bytes);
    const samples = [...new Uint32Array(bytes.buffer)].sort((a, b) => a - b);
    const total = this.#read(C.CTL_CYCLES) + this.#read(C.CTL_CYCLES + 1) * 2 ** 32;
    return {
      low: samples[Math.floor(samples.length / 10)] / perSample,
      median: samples[samples.length >> 1] / perSample,
      mean: total / job.count,
      errors: this.#read(C.CTL_ERRORS),
      kicksPerRequest: this.#read(C.CTL_KICKS) / job.count,
    };
  }

  /** Stops the whole process, guest included, so that others can be measured; `wake` goes on. */
  sleep(): void {
    Deno.kill(this.pid, "SIGSTOP");
  }

  wake(): void {
    Deno.kill(this.pid, "SIGCONT");
  }

  /**
   * Shields the process from whatever else the machine does: its threads go first, and the vCPU has CPU 0 to itself, which
   * its spinning guest would occupy anyway. Without that, others decide by chance if driver and device share a CPU.
   */
  async shield(): Promise<void> {
    for (const { name: thread } of [...Deno.readDirSync(`/proc/${this.pid}/task`)]) {
      const directory = `/proc/${this.pid}/task/${thread}`;
      try {
        const name = Deno.readTextFileSync(`${directory}/comm`).trim();
        const isVcpu = name === "vcpu0" || (this.server === "c" && Number(thread) === this.pid);
        await run("renice", "-n", "-19", "-p", thread);
        await run("taskset", "-p", "-c", isVcpu ? "0" : "1", thread);
      } catch (error) {
        // threads that only wait for work come and go
        if (await Deno.stat(directory).then(() => true, () => false)) throw error;
      }
    }
  }

  /** Feature bits the guest accepted, and sectors of the disk. */
  get negotiated(): { features: bigint; sectors: number } {
    const word = (index: number) => BigInt(this.#read(index));
    return {
      features: word(C.CTL_FEATURES) | word(C.CTL_FEATURES + 1) << 32n,
      sectors: this.#read(C.CTL_CAPACITY),
    };
  }

  async #setUp(setup: GuestSetup): Promise<void> {
    const options = (setup.eventIdx ? C.OPTION_EVENT_IDX : 0) | (setup.indirect ? C.OPTION_INDIRECT : 0) |
      (setup.interrupts ? C.OPTION_INTERRUPTS : 0);
    const { type, queues, queueSize } = DEVICES[setup.device];
    this.#write(C.CTL_DEVICE, [
      type,
      options,
      setup.device === "block" ? setup.queues ?? queues : queues,
      this.server === "c" ? DOORBELL : 0,
      queueSize,
    ]);
    this.#write(C.CTL_SETUP, [1]);
    await this.#until(() => this.#read(C.CTL_STATE) !== 0, 10_000, "does not start");
    if (this.#read(C.CTL_STATE) !== C.STATE_READY) {
      throw new Error(`the guest cannot use its device: fault ${this.#read(C.CTL_FAULT)}`);
    }
  }

  #read(word: number): number {
    const bytes = new Uint8Array(4);
    this.#memory.seekSync(C.CONTROL_GPA + 4 * word, Deno.SeekMode.Start);
    this.#memory.readSync(bytes);
    return new DataView(bytes.buffer).getUint32(0, true);
  }

  #write(word: number, values: readonly number[]): void {
    this.#memory.seekSync(C.CONTROL_GPA + 4 * word, Deno.SeekMode.Start);
    this.#memory.writeSync(new Uint8Array(Uint32Array.from(values).buffer));
  }

  async #until(done: () => boolean, timeoutMs: number, what: string): Promise<void> {
    let isOver = false;
    void this.ended.then(() => isOver = true);
    const end = performance.now() + timeoutMs;
    while (!done()) {
      if (isOver || performance.now() > end) throw new Error(`The guest ${what}`);
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.wake();
    await this.dispose();
    this.#memory.close();
    await Deno.remove(this.memoryPath);
  }
}

interface Started {
  readonly ended: Promise<unknown>;
  readonly pid: number;
  dispose(): Promise<unknown>;
  errors(): string;
}

async function startVmm(
  server: Server,
  memoryPath: string,
  programs: GuestPrograms,
  setup: GuestSetup,
): Promise<Started> {
  const program = server === "original" ? "reference" : "nephos";
  const path = server === "base" ? Deno.env.get("NEPHOS_BASE") : undefined;
  const vm = await Vm.start({ program, path, netns: setup.netns });
  const disk = {
    path: setup.path,
    image_type: setup.imageType ?? "Raw",
    num_queues: setup.queues ?? 1,
    queue_size: BLOCK_QUEUE_SIZE,
  };
  const net = { tap: setup.path, num_queues: 2, queue_size: NET_QUEUE_SIZE };
  try {
    await vm.api.mustPut("vm.create", {
      // a disk may have as many queues as there are vCPUs; the second one is never started
      cpus: { boot_vcpus: setup.queues ?? 1, max_vcpus: setup.queues ?? 1 },
      memory: { size: 0, zones: [{ id: "ram", size: C.RAM_BYTES, file: memoryPath, shared: true }] },
      payload: { kernel: programs.guest },
      serial: { mode: "Off" },
      console: { mode: "Off" },
      ...(setup.device === "block" && { disks: [disk] }),
      ...(setup.device === "net" && { net: [net] }),
      ...(setup.device === "vsock" && { vsock: { cid: VSOCK_CID, socket: setup.path } }),
    });
    await vm.api.mustPut("vm.boot");
  } catch (error) {
    await vm[Symbol.asyncDispose]();
    throw error;
  }
  return {
    ended: vm.exited,
    pid: vm.pid,
    dispose: () => vm[Symbol.asyncDispose](),
    errors: () => vm.stderr.text.slice(-2000),
  };
}

function startBackend(memoryPath: string, programs: GuestPrograms, setup: GuestSetup): Promise<Started> {
  const { queueSize } = DEVICES[setup.device];
  const args = [
    programs.guest,
    memoryPath,
    DOORBELL.toString(16),
    String(queueSize),
    setup.device,
    setup.path,
  ];
  const command = setup.netns === undefined
    ? [programs.backend]
    : ["ip", "netns", "exec", setup.netns, programs.backend];
  const child = new Deno.Command(command[0], { args: [...command.slice(1), ...args], stdin: "null" }).spawn();
  let hasEnded = false;
  const ended = child.status.then(() => hasEnded = true);
  return Promise.resolve({
    ended,
    pid: child.pid,
    dispose: () => {
      if (!hasEnded) child.kill("SIGKILL");
      return ended;
    },
    errors: () => "",
  });
}
