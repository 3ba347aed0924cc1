/**
 * The remote client's arguments against the original's: same requests, same texts, same exit codes.
 *
 * @module
 */
import assert from "node:assert/strict";
import { COMMAND_PARAMETERS } from "@vmm/remote/remote_help.ts";
import { Random } from "./bodies.ts";
import { optionValues, randomOptionValue, STRICTER } from "./option_values.ts";
import { callOurs, callReference, RecordingServer, REFERENCE_REMOTE } from "./remote_calls.ts";
import { REFERENCE_VMM } from "./reference_vmm.ts";

function differential(name: string, run: () => Promise<void>): void {
  Deno.test({
    name: REFERENCE_VMM === undefined ? `${name} (skipped: REFERENCE_VMM is not set)` : name,
    ignore: REFERENCE_REMOTE === undefined,
    fn: run,
  });
}

/** Calls with random values per seed. */
const RANDOM_CALLS = 600;

/** Calls both with `args`; their results and requests must be equal. */
async function compare(server: RecordingServer, args: readonly string[], stdin = ""): Promise<void> {
  const call = ["--api-socket", server.socket, ...args];
  const expected = { ...await callReference(call, stdin), request: server.take() };
  const actual = { ...await callOurs(call, stdin), request: server.take() };
  assert.deepEqual(actual, expected, JSON.stringify(args));
}

/** What each command cannot do without. */
const BASE: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  "add-device": { path: "/d" },
  "add-disk": { path: "/d" },
  "add-fs": { tag: "t", socket: "/s" },
  "add-generic-vhost-user": { device_type: "fs", socket: "/s", queue_sizes: "[2]" },
  "add-net": { tap: "t" },
  "add-pmem": { file: "/f" },
  "add-user-device": { socket: "/s" },
  "add-vdpa": { path: "/p" },
  "add-vsock": { cid: "3", socket: "/s" },
  restore: { source_url: "file:///s" },
  "receive-migration": { receiver_url: "unix:/s" },
  "send-migration": { destination_url: "tcp:h:1" },
};

const DEVICE_TYPES = [
  "1",
  "net",
  "NET",
  "01",
  "0",
  "iommu",
  "23",
  "watchdog",
  "4294967295",
  "4294967296",
  "+1",
  '"fs"',
];
const RECEIVERS = [
  "tcp:a:1",
  "foo",
  "unix:",
  "tcp:a",
  "tcp::1",
  "tcp:a:x",
  "tcp:[::1]:5",
  "tcp:[::1",
  "tcp:a:65536",
];
const EXTRA: Readonly<Record<string, Readonly<Record<string, readonly string[]>>>> = {
  "add-generic-vhost-user": { device_type: [...DEVICE_TYPES, ""], virtio_id: [...DEVICE_TYPES, ""] },
  "receive-migration": { receiver_url: RECEIVERS },
  "send-migration": { destination_url: [...RECEIVERS, "unix:/a"], connections: ["2", "128", "129"] },
};

/** Parameters whose values would be sent as descriptors. */
const DESCRIPTORS = /(^|,)(fd|net_fds|vfio_fds|iommufd_fd)=/;

for (const [command, base] of Object.entries(BASE)) {
  differential(`${command}: requests and errors are the original's`, async () => {
    await using server = new RecordingServer();
    const values = optionValues(COMMAND_PARAMETERS[command], base, EXTRA[command])
      .filter((value) => !DESCRIPTORS.test(value));
    assert.ok(values.length > 30);
    for (const value of values) await compare(server, [command, value]);
  });
}

// Of several faults in one value the one reported may differ, so only the request and the exit code are compared.
differential("random values: requests and exit codes are the original's", async () => {
  const commands = Object.keys(BASE);
  const stricter = /[KMG]{2}|\d{6}|65536/;
  for (const seed of [1, 2]) {
    await using server = new RecordingServer();
    const random = new Random(seed);
    for (let calls = 0; calls < RANDOM_CALLS; calls++) {
      const command = random.pick(commands);
      const value = randomOptionValue(COMMAND_PARAMETERS[command], random);
      if (value.startsWith("-") || DESCRIPTORS.test(value) || stricter.test(value)) continue;
      const call = ["--api-socket", server.socket, command, value];
      const expected = { code: (await callReference(call)).code, request: server.take() };
      const actual = { code: (await callOurs(call)).code, request: server.take() };
      assert.deepEqual(actual, expected, `seed ${seed}: ${JSON.stringify([command, value])}`);
    }
  }
});

differential("send-migration: rules are the original's", async () => {
  await using server = new RecordingServer();
  for (
    const value of [
      "destination_url=unix:/a,local=on",
      "destination_url=unix:/a,local=on,preserve_source=on",
      "destination_url=unix:/a,connections=2",
      "destination_url=unix:/a,tls_dir=/b",
      "destination_url=unix:/a,local=on,memory_mode=postcopy",
      "destination_url=tcp:a:1,connections=2,memory_mode=postcopy",
      "destination_url=tcp:a:1,local=on",
      "destination_url=unix:/a,preserve_source=on",
    ]
  ) await compare(server, ["send-migration", value]);
});

differential("commands without configuration: requests and errors are the original's", async () => {
  await using server = new RecordingServer();
  for (
    const name of [
      ...["boot", "counters", "delete", "info", "nmi", "pause", "ping", "power-button", "reboot"],
      ...["resume", "shutdown", "shutdown-vmm", "resize", "create"],
    ]
  ) await compare(server, [name]);
  for (const size of ["1", "1K", "1M", "1G", "+1", "1T", "", '"1"', "-"]) {
    await compare(server, ["resize", "--memory", size]);
    await compare(server, ["resize", "--balloon", size]);
    await compare(server, ["resize-zone", "--id", "z", "--size", size]);
    await compare(server, ["resize-disk", "--disk", "d", "--size", size]);
  }
  const counts = ["0", "1", "+2", "4294967295", "4294967296", "x", "", "-", "+", '"1"', "1K"];
  for (const count of [...counts, "4294967295K", "4294967296K", "+17179869183G"]) {
    await compare(server, ["resize", "--cpus", count]);
  }
  for (const word of ["", "x", 'a"b', "é\t", "file:///a"]) {
    for (const name of ["remove-device", "snapshot", "coredump"]) await compare(server, [name, word]);
  }
  await compare(server, ["create"], '{"payload": {}}\n');
  await compare(server, ["create", "-"], "not JSON");
  await compare(server, ["create", "/nonexistent"]);
  await compare(server, ["create", "/"]);
});

differential("usage errors of the remote client are the original's", async () => {
  for (
    const args of [
      ["--foo"],
      ["--api-socket"],
      ["--api-socket", "x"],
      ["--api-socket", "x", "--api-socket", "y", "info"],
      ["info", "--api-socket", "x"],
      ["info", "x"],
      ["info"],
      ["snapshot"],
      ["snapshot", "a", "b"],
      ["restore"],
      ["resize", "--cpus"],
      ["resize", "--cpus", "1", "--cpus", "2"],
      ["resize", "--cpus", "-1"],
      ["resize", "x"],
      ["foo"],
      ["--dbus-service-name", "a", "info"],
      ["--dbus-service-name", "a", "--dbus-object-path", "b", "--api-socket", "c", "info"],
      ["--api-socket", "/nonexistent/s", "info"],
      ["--api-socket", "/", "info"],
      ["--version"],
      ["--version=1"],
      ["--api-sock", "x", "info"],
      ["--dbus-system-bus=1", "info"],
      ["--api-socket", "", "info"],
      ["--api-socket", "/".padEnd(200, "x"), "info"],
      ["--", "info"],
      ["--", "help"],
      ["--", "foo"],
      ["inf"],
      ["add"],
      ["hel"],
      ["resu"],
      ["-"],
      ["help", "nope"],
      ["help", "info", "x"],
      ["help", "resize", "--cpus"],
      ["help", "create", "x"],
      ["resize", "--cpu", "1"],
      ["resize", "-x"],
      ["resize", "--", "-x"],
      ["create", "-x"],
      ["snapshot", "a", "--foo=1"],
      ["snapshot", "-xy"],
      ["restore", "--source_url=x"],
      ["--dbus-object-path", "x", "--api-socket", "a", "--foo"],
      ["resize", "--memory", "1", "--cpus", "1", "--foo"],
      ["resize", "--memory", "1", "--cpus=2", "--balloo", "3"],
      ["resize", "--memory", "1", "--cpus", "1", "--", "--foo"],
      ["resize-disk", "--size", "1", "--", "--disk", "x"],
      ["ping", "--", "--foo"],
      ["snapshot", "a", "--", "--foo"],
      ["snapshot", "--", "--foo", "b"],
    ]
  ) assert.deepEqual(await callOurs(args), await callReference(args), JSON.stringify(args));
});

differential("responses are shown as by the original", async () => {
  await using server = new RecordingServer();
  const answer = (status: string, body: string) =>
    `HTTP/1.1 ${status}\r\nContent-Length: ${body.length}\r\n\r\n${body}`;
  for (
    const response of [
      answer("200 ", "{}"),
      answer("200 ", ""),
      answer("200 ", "a\nb c"),
      "HTTP/1.1 200 \r\n\r\n",
      "HTTP/1.1 200 \r\nContent-Length: 5\r\n\r\n{}",
      "HTTP/1.1 204 \r\n\r\n",
      ...["400", "404", "409", "429", "500", "501"].map((status) =>
        answer(`${status} `, '["a","b \\"c\\""]')
      ),
      answer("500 ", "[]"),
      ...["", "[1]", "{}", '{ "error": "x" }', "null", '["a",2]', '["a"', '"\\ud800"', "nul", '["a"]x'].map((
        body,
      ) => answer("400 ", body)),
      "HTTP/1.1 500 \r\n\r\n",
      "HTTP/1.1 503\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}",
      "HTTP/1.1 200 \r\nContent-Length: 99999999999999999999\r\n\r\n[]",
      "HTTP/1.1 99999999999999999999 \r\nContent-Length: 2\r\n\r\n[]",
      "HTTP/1.1 200 \r\nContent-Length: -5\r\n\r\n[]",
      "HTTP/1.1 200 \r\nContent-Length:   2  \r\n\r\n[]",
      answer("201 ", "{}"),
      "garbage\r\n\r\n",
      "HTTP/1.1 500 \r\nContent-Length: x\r\n\r\nhello",
      "",
    ]
  ) {
    server.response = response;
    for (const name of ["info", "boot", "shutdown-vmm"]) await compare(server, [name]);
  }
});

differential("values that the original changes are refused", async () => {
  await using server = new RecordingServer();
  for (const [command, value, why] of STRICTER) {
    const call = ["--api-socket", server.socket, command, value];
    if (!DESCRIPTORS.test(value)) assert.equal((await callReference(call)).code, 0, `${value}: ${why}`);
    server.take();
    const { code, stderr } = await callOurs(call);
    assert.equal(code, 1);
    assert.match(stderr, /Unable to convert/);
    assert.equal(server.take(), undefined);
  }
});
