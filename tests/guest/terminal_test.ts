/** A console on the user's own terminal: raw while a VM runs, as it was before however that ends. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { BOOT_TIMEOUT_MS, eventually } from "@tests/framework/deadline.ts";
import { run } from "@tests/framework/command.ts";
import { ApiClient } from "@tests/framework/http_client.ts";
import { programPath } from "@tests/framework/programs.ts";
import { POWER_OFF, pvhElf, SPIN } from "@tests/framework/tiny_guest.ts";
import { guestTest, IS_REFERENCE, PROGRAM } from "./subject.ts";

/** Started in the terminal that `script` makes; what is found goes to files. */
const SESSION = `
tty >tty; stty -g >before
"$PROGRAM" -v --api-socket api.sock --kernel "$KERNEL" --serial tty --console off --memory size=64M & wait=$!
echo $wait >pid; fg >/dev/null; echo $? >code; stty -g >after; mv after end`;

interface Session {
  readonly api: ApiClient;
  readonly pid: number;
}

/** Runs a guest on a terminal; `act` is called once it runs. @returns exit code, and what the terminal showed */
async function onTerminal(
  kernel: Uint8Array<ArrayBuffer> | undefined,
  act?: (session: Session) => Promise<unknown>,
): Promise<{ code: number; shown: string }> {
  const directory = await Deno.makeTempDir({ prefix: "nephos-terminal-" });
  const read = (name: string) => Deno.readTextFile(join(directory, name)).catch(() => undefined);
  const there = (name: string) => eventually(`"${name}" of the session`, () => read(name), BOOT_TIMEOUT_MS);
  if (kernel) await Deno.writeFile(join(directory, "kernel"), kernel);
  await Deno.writeTextFile(join(directory, "session"), SESSION);
  const terminal = new Deno.Command("script", {
    args: ["-qefc", "bash -m session", "shown"],
    cwd: directory,
    env: { PROGRAM: programPath(PROGRAM)!, KERNEL: "kernel" },
    stdin: "null",
    stdout: "null",
  }).spawn();
  try {
    if (act) {
      const api = new ApiClient(join(directory, "api.sock"));
      const state = () => api.info().then((info) => info.state, () => undefined);
      await eventually("a running VM", async () => await state() === "Running", BOOT_TIMEOUT_MS);
      const mode = await run("stty", "-F", (await there("tty")).trim(), "-g");
      assert.notEqual(mode, await read("before"), "the terminal is not raw");
      await act({ api, pid: Number(await there("pid")) });
    }
    assert.equal(await there("end"), await read("before"), "the terminal is not what it was");
    await terminal.status;
    return { code: Number(await read("code")), shown: (await read("shown"))! };
  } finally {
    try {
      terminal.kill("SIGKILL");
    } catch {
      // It has ended, as it should.
    }
    await terminal.status;
    await Deno.remove(directory, { recursive: true });
  }
}

const NEEDS = { commands: ["script", "stty", "bash"] };

guestTest("the terminal is restored when the guest powers off", async () => {
  const { code, shown } = await onTerminal(pvhElf(POWER_OFF));
  assert.equal(code, 0);
  assert.match(shown, /U/);
  // What is logged while the terminal is raw begins at the left, too; the first and last lines are those of `script`.
  const lines = shown.split("\n").slice(1, -3);
  assert.ok(lines.length > 2, shown);
  if (!IS_REFERENCE) assert.deepEqual(lines.filter((line) => !line.endsWith("\r")), []);
}, NEEDS);

guestTest("the terminal is restored when the VM does not boot, and the reason is readable", async () => {
  const { code, shown } = await onTerminal(undefined);
  assert.equal(code, 1);
  // Each line of the chain begins at the left: the terminal adds carriage returns again.
  assert.match(shown, /\r\n\s+0: Error booting VM\r\n\s+1: The VM could not boot\r\n/);
}, NEEDS);

const WAYS: Record<string, (session: Session) => unknown> = {
  SIGTERM: ({ pid }) => Deno.kill(pid, "SIGTERM"),
  SIGINT: ({ pid }) => Deno.kill(pid, "SIGINT"),
  "vmm.shutdown": ({ api }) => api.mustPut("vmm.shutdown"),
};

for (const [way, end] of Object.entries(WAYS)) {
  guestTest(`the terminal is raw while a guest runs and restored by ${way}`, async () => {
    const { code } = await onTerminal(pvhElf(SPIN), async (session) => await end(session));
    assert.equal(code, 0);
  }, NEEDS);
}
