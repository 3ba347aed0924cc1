import assert from "node:assert/strict";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { writePackage } from "./pack.ts";

const SOURCE = join(dirname(fileURLToPath(import.meta.url)), "launcher.c");
/** Stands in for the runtime: says what it was given. */
const RUNTIME = `#!/bin/sh
echo "pid=$$ link=\${0##*/} deno_dir=$DENO_DIR argv0=$NEPHOS_ARGV0 exe=$NEPHOS_EXE"
for argument in "$@"; do echo "[$argument]"; done
`;
/** Nobody: the checks of ownership need a user who is not root. */
const OTHER_UID = 65534;
const IS_ROOT = Deno.uid() === 0;
const HAS_COMPILER =
  (await new Deno.Command("sh", { args: ["-c", "command -v cc"], stdout: "null" }).output()).success;

class Fixture implements AsyncDisposable {
  private constructor(readonly directory: string, readonly program: string, readonly cache: string) {}

  static async make(): Promise<Fixture> {
    const directory = await Deno.makeTempDir({ prefix: "nephos-launcher-" });
    await Deno.chmod(directory, 0o755);
    const launcher = join(directory, "launcher");
    const { success, stderr } = await new Deno.Command("cc", {
      args: ["-static", "-O1", "-std=c11", "-Wall", "-Wextra", "-Werror", "-o", launcher, SOURCE],
    }).output();
    assert.ok(success, new TextDecoder().decode(stderr));
    await Deno.writeTextFile(join(directory, "runtime.sh"), RUNTIME);
    await Deno.writeTextFile(join(directory, "main.js"), "// entry\n");
    const program = join(directory, "program");
    await writePackage(program, launcher, [
      { label: "runtime", files: [{ name: "deno", path: join(directory, "runtime.sh"), mode: 0o500 }] },
      {
        label: "app",
        files: [{ name: "main.js", path: join(directory, "main.js"), mode: 0o400 }],
        links: { nephos: "../{runtime}/deno", "ch-remote": "../{runtime}/deno" },
      },
    ], { group: "app", program: "nephos", script: "main.js", arguments: ["run", "--quiet"] });
    return new Fixture(directory, program, join(directory, "cache"));
  }

  async run(
    args: string[],
    env: Record<string, string> = { NEPHOS_CACHE: this.cache },
    options: { uid?: number; program?: string } = {},
  ): Promise<{ code: number; pid: number; lines: string[]; error: string }> {
    const { program = this.program, ...rest } = options;
    const command = new Deno.Command(program, {
      args,
      env: { PATH: "/usr/bin:/bin", ...env },
      clearEnv: true,
      stdout: "piped",
      stderr: "piped",
      ...rest,
    });
    const child = command.spawn();
    const { code, stdout, stderr } = await child.output();
    const decode = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
    return { code, pid: child.pid, lines: decode(stdout).trimEnd().split("\n"), error: decode(stderr) };
  }

  /** Names below the cache's run directory, group hashes replaced. */
  async unpacked(base: string = join(this.cache, "run")): Promise<string[]> {
    const names: string[] = [];
    for await (const group of Deno.readDir(base)) {
      for await (const entry of Deno.readDir(join(base, group.name))) {
        names.push(`${group.name.replace(/-[0-9a-f]{24}$/, "")}/${entry.name}`);
      }
      assert.equal((await Deno.stat(join(base, group.name))).mode! & 0o777, 0o700);
    }
    return names.sort();
  }

  async pathOf(label: string, name: string): Promise<string> {
    for await (const group of Deno.readDir(join(this.cache, "run"))) {
      if (group.name.startsWith(`${label}-`)) return join(this.cache, "run", group.name, name);
    }
    throw new Error(`No group "${label}"`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Deno.remove(this.directory, { recursive: true });
  }
}

const ALL = ["app/ch-remote", "app/main.js", "app/nephos", "runtime/deno"];

function test(name: string, needsRoot: boolean, body: (fixture: Fixture) => Promise<void>): void {
  Deno.test({
    name: `launcher ${name}`,
    ignore: !HAS_COMPILER || (needsRoot && !IS_ROOT),
    async fn() {
      await using fixture = await Fixture.make();
      await body(fixture);
    },
  });
}

test("passes the arguments on, after its own, in the same process", false, async (fixture) => {
  const { code, pid, lines } = await fixture.run(["--help", "a b", ""]);
  assert.equal(code, 0);
  assert.equal(lines[0].split(" ")[0], `pid=${pid}`);
  assert.match(
    lines[0],
    /link=nephos deno_dir=\S+\/app-[0-9a-f]{24}\/\.deno argv0=\S+program exe=\S+program$/,
  );
  assert.deepEqual(lines.slice(1, 3), ["[run]", "[--quiet]"]);
  assert.match(lines[3], /^\[\S+\/app-[0-9a-f]{24}\/main\.js\]$/);
  assert.deepEqual(lines.slice(4), ["[--help]", "[a b]", "[]"]);
  assert.deepEqual(await fixture.unpacked(), ALL);
});

test("runs under the name it was called by", false, async (fixture) => {
  const link = join(fixture.directory, "ch-remote");
  await Deno.symlink("program", link);
  const { lines } = await fixture.run([], undefined, { program: link });
  assert.match(lines[0], /link=ch-remote .* argv0=\S+ch-remote exe=\S+program$/);
});

test("mends a file that was removed or cut off", false, async (fixture) => {
  await fixture.run([]);
  await Deno.remove(await fixture.pathOf("app", "main.js"));
  await Deno.chmod(await fixture.pathOf("runtime", "deno"), 0o700);
  await Deno.truncate(await fixture.pathOf("runtime", "deno"), 3);
  const { code, error } = await fixture.run([]);
  assert.equal(code, 0, error);
  assert.deepEqual(await fixture.unpacked(), ALL);
});

test("unpacks once when many start at the same time", false, async (fixture) => {
  const results = await Promise.all(Array.from({ length: 12 }, () => fixture.run([])));
  assert.deepEqual(results.map(({ code, error }) => [code, error]), Array(12).fill([0, ""]));
  assert.deepEqual(await fixture.unpacked(), ALL);
});

test("removes what a killed start left behind", false, async (fixture) => {
  const run = join(fixture.cache, "run");
  await Deno.mkdir(join(run, ".new-old"), { recursive: true, mode: 0o700 });
  await Deno.chmod(run, 0o700);
  await Deno.chmod(fixture.cache, 0o700);
  await Deno.writeTextFile(join(run, ".new-old", ".part-1"), "half");
  await Deno.mkdir(join(run, ".new-fresh"), { mode: 0o700 });
  await Deno.utime(join(run, ".new-old"), 0, 0);
  const { code, error } = await fixture.run([]);
  assert.equal(code, 0, error);
  const hidden = [...Deno.readDirSync(run)].map(({ name }) => name).filter((name) => name.startsWith("."));
  assert.deepEqual(hidden, [".new-fresh"]);
});

test("starts in a directory that was removed", false, async (fixture) => {
  const shell = 'cd "$1/gone" && rmdir "$1/gone" && exec "$2"';
  await Deno.mkdir(join(fixture.directory, "gone"));
  const args = ["-c", shell, "sh", fixture.directory, fixture.program];
  const { code, error } = await fixture.run(args, undefined, { program: "/bin/sh" });
  assert.equal(code, 0, error);
});

test("refuses a file that was cut off", false, async (fixture) => {
  const whole = await Deno.readFile(fixture.program);
  const short = join(fixture.directory, "short");
  await Deno.writeFile(short, whole.subarray(0, whole.length - 5), { mode: 0o755 });
  const { code, error } = await fixture.run([], undefined, { program: short });
  assert.equal(code, 127);
  assert.equal(error, "nephos: this file has no payload; it was not made by the build script\n");
});

test(
  "uses the run-time directory when HOME is unset and the cache belongs to another user",
  true,
  async (fixture) => {
    const runtimeDirectory = join(fixture.directory, "runtime");
    await Deno.mkdir(fixture.cache, { mode: 0o755 });
    await Deno.mkdir(runtimeDirectory, { mode: 0o700 });
    await Deno.chown(runtimeDirectory, OTHER_UID, OTHER_UID);
    const env = { NEPHOS_CACHE: fixture.cache, XDG_RUNTIME_DIR: runtimeDirectory };
    const { code, error } = await fixture.run([], env, { uid: OTHER_UID });
    assert.equal(code, 0, error);
    assert.deepEqual(await fixture.unpacked(join(runtimeDirectory, "nephos")), ALL);
    assert.deepEqual([...Deno.readDirSync(fixture.cache)], []);
  },
);

test("falls back to a directory of its own in /tmp", true, async (fixture) => {
  const base = `/tmp/nephos-${OTHER_UID}`;
  const before = await Deno.lstat(base).catch(() => null);
  const { code, lines, error } = await fixture.run([], { HOME: fixture.directory }, { uid: OTHER_UID });
  try {
    assert.equal(code, 0, error);
    assert.match(lines[0], new RegExp(`deno_dir=${base}/app-`));
  } finally {
    if (before === null) await Deno.remove(base, { recursive: true });
  }
});

test("refuses a directory in /tmp that somebody else made", true, async (fixture) => {
  const base = `/tmp/nephos-${OTHER_UID}`;
  if (await Deno.lstat(base).catch(() => null) !== null) await Deno.remove(base, { recursive: true });
  await Deno.mkdir(base, { mode: 0o777 });
  try {
    const { code, error } = await fixture.run([], {}, { uid: OTHER_UID });
    assert.equal(code, 127);
    assert.match(error, /no place to unpack to.*\n {2}'\/tmp\/nephos-65534' belongs to another user/);
  } finally {
    await Deno.remove(base, { recursive: true });
  }
});
