/**
 * Core scheduling cookies of vCPU threads: the same orders to the kernel as the original's.
 *
 * strace answers in the kernel's place, because few kernels are built with core scheduling and not all processors have
 * hyperthreads.
 *
 * @module
 */
import assert from "node:assert/strict";
import { eventually } from "@tests/framework/deadline.ts";
import { type ProgramName, testWith } from "@tests/framework/programs.ts";
import { HALT, pvhElf } from "@tests/framework/tiny_guest.ts";
import { Vm } from "@tests/framework/vm.ts";

const VCPUS = 3;
/** `tid prctl(PR_SCHED_CORE, command, pid, PIDTYPE_PID, …`. */
const ORDER = /^(\d+) +prctl\(PR_SCHED_CORE, PR_SCHED_CORE_(CREATE|SHARE_FROM), (\d+), 0 /gm;

interface Order {
  readonly tid: number;
  readonly command: string;
  readonly pid: number;
}

/** Answers every prctl(2) of a running program with `answer` and writes down what it asked. */
class Tracer implements AsyncDisposable {
  private constructor(private readonly child: Deno.ChildProcess, private readonly file: string) {}

  static async attach(vm: Vm, answer: string): Promise<Tracer> {
    const file = `${vm.directory}/trace`;
    const child = new Deno.Command("strace", {
      args: ["-f", "-e", "trace=prctl", "-e", `inject=prctl:${answer}`, "-o", file, "-p", `${vm.pid}`],
      stdin: "null",
      stdout: "null",
      stderr: "piped",
    }).spawn();
    const { value } = await child.stderr.pipeThrough(new TextDecoderStream()).values().next();
    assert.match(value!, /attached/);
    return new Tracer(child, file);
  }

  /** Waits for that many orders about cookies. */
  async orders(count: number): Promise<Order[]> {
    let orders: Order[] = [];
    await eventually(`${count} orders`, async () => {
      orders = [...(await Deno.readTextFile(this.file)).matchAll(ORDER)].map(([, tid, command, pid]) => (
        { tid: Number(tid), command, pid: Number(pid) }
      ));
      return orders.length >= count;
    });
    return orders;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.child.kill("SIGINT");
    await this.child.status;
  }
}

async function startVmm(program: ProgramName): Promise<Vm> {
  const vm = await Vm.start({ program, args: ["--seccomp", "false"] });
  await Deno.writeFile(`${vm.directory}/kernel`, pvhElf(HALT));
  return vm;
}

async function create(vm: Vm, core_scheduling?: string): Promise<void> {
  await vm.api.mustPut("vm.create", {
    cpus: { boot_vcpus: VCPUS, max_vcpus: VCPUS, core_scheduling },
    memory: { size: 64 << 20 },
    payload: { kernel: `${vm.directory}/kernel` },
    serial: { mode: "Null" },
    console: { mode: "Off" },
  });
}

for (const program of ["nephos", "reference"] as const) {
  const needs = { kvm: true, root: true, commands: ["strace"] };
  const all = program === "nephos" ? { ...needs, binary: true } : { ...needs, reference: true };
  for (const mode of [undefined, "Vm", "Vcpu"]) {
    testWith(all, `${program}: the kernel is asked for cookies, ${mode ?? "by default"}`, async () => {
      await using vm = await startVmm(program);
      await create(vm, mode);
      await using tracer = await Tracer.attach(vm, "retval=0");
      await vm.api.mustPut("vm.boot");
      const orders = await tracer.orders(VCPUS);
      assert.equal(new Set(orders.map(({ tid }) => tid)).size, VCPUS);
      if (mode === "Vcpu") {
        for (const order of orders) assert.deepEqual(order, { tid: order.tid, command: "CREATE", pid: 0 });
      } else {
        const [{ tid: leader }, ...others] = orders;
        assert.deepEqual(orders[0], { tid: leader, command: "CREATE", pid: 0 });
        for (const order of others) {
          assert.deepEqual(order, { tid: order.tid, command: "SHARE_FROM", pid: leader });
        }
      }
      await vm.api.mustPut("vm.delete");
      if (program === "reference") return; // its threads end
      const given = (await tracer.orders(2 * VCPUS)).slice(VCPUS);
      assert.deepEqual(new Set(given.map(({ tid }) => tid)), new Set(orders.map(({ tid }) => tid)));
      for (const { command, pid } of given) assert.deepEqual([command, pid], ["SHARE_FROM", vm.pid]);
    });
  }

  testWith(all, `${program}: nothing is asked of a kernel when core scheduling is off`, async () => {
    await using vm = await startVmm(program);
    await create(vm, "Off");
    await using tracer = await Tracer.attach(vm, "retval=0");
    await vm.api.mustPut("vm.boot");
    await vm.api.mustPut("vm.delete");
    assert.deepEqual(await tracer.orders(0), []);
  });

  testWith(all, `${program}: a machine without hyperthreads boots all the same`, async () => {
    await using vm = await startVmm(program);
    await create(vm);
    await using tracer = await Tracer.attach(vm, "error=ENODEV");
    await vm.api.mustPut("vm.boot");
    assert.equal((await tracer.orders(VCPUS)).length, VCPUS);
    assert.equal((await vm.api.info()).state, "Running");
  });
}

testWith(
  { kvm: true, root: true, binary: true, commands: ["strace"] },
  "nephos: a VM whose vCPUs get no cookie does not run, and says why",
  async () => {
    await using vm = await startVmm("nephos");
    await create(vm);
    {
      await using _ = await Tracer.attach(vm, "error=EPERM");
      const { status, body } = await vm.api.put("vm.boot");
      assert.equal(status, 500);
      assert.deepEqual(JSON.parse(body), [
        "Error from API",
        "The VM could not boot",
        "Error enabling core scheduling",
        "Operation not permitted (os error 1)",
      ]);
    }
    assert.equal((await vm.api.info()).state, "Created");
    await vm.api.mustPut("vm.delete");
    await create(vm);
    await vm.api.mustPut("vm.boot");
  },
);
