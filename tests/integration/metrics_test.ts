/**
 * What `/metrics` says of a real VM: in the right format, and every metric of `docs/metrics.md`.
 *
 * @module
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { type Family, readExposition } from "@tests/framework/prometheus.ts";
import { ROOT, testWith } from "@tests/framework/programs.ts";
import { HALT, pvhElf } from "@tests/framework/tiny_guest.ts";
import { eventually } from "@tests/framework/deadline.ts";
import { Vm } from "@tests/framework/vm.ts";

/** Metrics that only devices or faults this VM does not have would show. */
const ABSENT = /^nephos_(net_.*|driver_faults_total|device_counter|machine|disk_latency_seconds)$/;

async function scrape(vm: Vm): Promise<Map<string, Family>> {
  const { status, body } = await vm.api.get("/metrics");
  assert.equal(status, 200);
  return readExposition(body);
}

const stateOf = (families: Map<string, Family>) =>
  families.get("nephos_vm_state")!.samples.filter(({ value }) => value === 1).map(({ labels }) =>
    labels.state
  );

testWith(
  { kvm: true, binary: true },
  "/metrics follows a VM, in the format and with the names documented",
  async () => {
    await using vm = await Vm.start();
    await Deno.writeFile(`${vm.directory}/kernel`, pvhElf(HALT));
    await Deno.writeFile(`${vm.directory}/disk`, new Uint8Array(1 << 20));
    assert.deepEqual(stateOf(await scrape(vm)), []);
    await vm.api.mustPut("vm.create", {
      payload: { kernel: `${vm.directory}/kernel` },
      memory: { size: 64 << 20 },
      disks: [{ id: 'd"0', path: `${vm.directory}/disk`, image_type: "Raw" }],
      serial: { mode: "File", file: `${vm.directory}/serial` },
      console: { mode: "Off" },
    });
    assert.deepEqual(stateOf(await scrape(vm)), ["Created"]);
    await vm.api.mustPut("vm.boot");
    await eventually(
      "the guest's sign of life",
      async () => (await Deno.readTextFile(`${vm.directory}/serial`)).includes("U"),
    );
    await vm.api.get("vm.nonsense");
    const tooLong = " ".repeat((4 << 20) + 1);
    assert.equal((await vm.api.request("PUT", "vm.create", tooLong)).status, 413);
    const families = await scrape(vm);
    assert.deepEqual(stateOf(families), ["Running"]);
    const value = (name: string, labels: Record<string, string> = {}) =>
      families.get(name)?.samples.find((sample) =>
        Object.entries(labels).every(([key, text]) => sample.labels[key] === text)
      )?.value;
    assert.ok(value("nephos_vcpu_exits_total", { reason: "io" })! >= 1);
    assert.equal(value("nephos_disk_reads_total", { device: 'd"0' }), 0);
    assert.equal(value("nephos_vm_memory_actual_bytes"), 64 << 20);
    const door = "http";
    assert.equal(value("nephos_api_requests_total", { door, endpoint: "vm.boot", status: "204" }), 1);
    assert.equal(value("nephos_api_requests_total", { door, endpoint: "unknown", status: "404" }), 1);
    assert.equal(value("nephos_api_refused_total", { door, reason: "too_long" }), 1);

    const page = await Deno.readTextFile(join(ROOT, "docs", "metrics.md"));
    const documented = [...page.matchAll(/^\| `(nephos_\w+)` +\| (\w+)/gm)].map((
      [, name, type],
    ) => [name, type]);
    const shown = new Map([...families].map(([name, { type }]) => [name, type]));
    for (const [name, type] of documented) {
      if (!ABSENT.test(name)) assert.equal(shown.get(name), type, name);
      shown.delete(name);
    }
    assert.deepEqual([...shown.keys()], [], "metrics that are not documented");

    await vm.api.mustPut("vm.pause");
    assert.deepEqual(stateOf(await scrape(vm)), ["Paused"]);

    assert.match((await vm.api.get("/metrics?of=everything")).body, /^# HELP /);
    const { status, body } = await vm.api.request("HEAD", "/metrics");
    assert.deepEqual([status, body], [200, ""]);
    assert.equal((await vm.api.request("HEAD", "/api/v1/events")).status, 404);
  },
);
