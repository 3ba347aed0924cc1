/**
 * Builds `dist/nephos`, one file, and the personalities `cloud-hypervisor` and `ch-remote` as links to it.
 *
 * A build script: `deno task build [--packager=auto|compile|launcher] [--source=DIR] [--out=DIR]`.
 * `compile` is `deno compile`, where its runtime can be had (DENORT_BIN, Deno's cache or its download);
 * `launcher` is our own small first process with Deno itself in the payload, which needs nothing from the network.
 * Both carry the same bundles: `main.js` with lazily loaded chunks, and one file for each Worker role.
 *
 * @module
 */

import { parseArgs } from "node:util";
import { basename, dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { type PayloadFile, writePackage } from "./launcher/pack.ts";
import { WORKER_ROLES } from "@vmm/base/worker_url.ts";
import { replaceSourceMaps } from "./source_lines.ts";

/**
 * The young generation, in MiB: one that starts at 1 is collected every fiftieth request, and with it every hundredth waits.
 * Hot paths in Workers do not allocate, so they never fill theirs.
 */
const V8_FLAGS = "--v8-flags=--min-semi-space-size=8,--max-semi-space-size=8";

const ROOT = dirname(dirname(fileURLToPath(import.meta.url)));
const PERSONALITIES = ["cloud-hypervisor", "ch-remote"];
const PROGRAM = "nephos";
/** Optional dependencies of optional dependencies: never reached on Linux, not installed. */
const EXTERNALS = ["x11", "usocket", "abstract-socket"];
const COMPILE_PROBE_TIMEOUT_MS = 60_000;

if (import.meta.main) {
  const { values } = parseArgs({
    args: Deno.args,
    options: {
      packager: { type: "string", default: Deno.env.get("NEPHOS_PACKAGER") ?? "auto" },
      source: { type: "string", default: join(ROOT, "src") },
      out: { type: "string", default: join(ROOT, "dist") },
    },
  });
  try {
    await build(values.packager, resolve(values.source), resolve(values.out));
  } catch (error) {
    console.error(`build: ${error instanceof Error ? error.message : error}`);
    Deno.exit(1);
  }
}

/** Bundles `source` and packs the result into `out`; throws an Error with a message for the user. */
export async function build(packager: string, source: string, out: string): Promise<void> {
  if (!["auto", "compile", "launcher"].includes(packager)) {
    throw new Error(`Unknown packager "${packager}": use auto, compile or launcher`);
  }
  const bundles = join(out, "bundle");
  await checkEntryPoints(source);
  await Deno.remove(bundles, { recursive: true }).catch(ignoreNotFound);
  await Deno.mkdir(bundles, { recursive: true });
  await bundle(source, bundles);

  const target = join(out, PROGRAM);
  const flags = [...await unstableFlags(), V8_FLAGS];
  let how = packager;
  if (how === "auto") how = await canCompile(out) ? "compile" : "launcher";
  if (how === "compile") await compile(bundles, target, flags);
  else await pack(bundles, target, flags, out);

  for (const name of PERSONALITIES) {
    await Deno.remove(join(out, name)).catch(ignoreNotFound);
    await Deno.symlink(PROGRAM, join(out, name));
  }
  const { size } = await Deno.stat(target);
  console.log(`build: ${target} (${how}, ${(size / 2 ** 20).toFixed(1)} MiB)`);
}

function entryPoints(source: string): { main: string; workers: [role: string, path: string][] } {
  return {
    main: join(source, "main.ts"),
    workers: WORKER_ROLES.map((role) => [role, join(source, "machine", `${role}_worker.ts`)]),
  };
}

async function checkEntryPoints(source: string): Promise<void> {
  const { main, workers } = entryPoints(source);
  const missing: string[] = [];
  for (const path of [main, ...workers.map(([, path]) => path)]) {
    await Deno.stat(path).catch(() => missing.push(path));
  }
  if (missing.length > 0) throw new Error(`Cannot bundle: missing entry point ${missing.join(", ")}`);
}

/** Workers are bundled one by one so that each starts from a single small file; main keeps its lazy chunks. */
async function bundle(source: string, bundles: string): Promise<void> {
  const { main, workers } = entryPoints(source);
  const shared = [
    ...["bundle", "--quiet", "--platform=deno", "--sourcemap=external"],
    ...EXTERNALS.map((name) => `--external=${name}`),
  ];
  await Promise.all([
    run([...shared, "--code-splitting", `--outdir=${bundles}`, main]),
    ...workers.map(([role, path]) =>
      run([...shared, `--output=${join(bundles, `${role}_worker.js`)}`, path])
    ),
  ]);
  await replaceSourceMaps(bundles, ROOT);
  await hideDynamicImports(bundles);
}

/**
 * Deno reads every module that an import names by a constant, also those that are to be loaded later: 40 files, zod among
 * them, before the program starts. A name that is computed is looked up when it is asked for.
 */
async function hideDynamicImports(bundles: string): Promise<void> {
  for await (const { name } of Deno.readDir(bundles)) {
    if (!name.endsWith(".js")) continue;
    const path = join(bundles, name);
    const text = await Deno.readTextFile(path);
    const hidden = text.replace(/\bimport\("(\.\/[\w-]+\.js)"\)/g, `import(globalThis.String("$1"))`);
    if (hidden !== text) await Deno.writeTextFile(path, hidden);
  }
}

/** The runtime flags for the `unstable` list of deno.json, which the packed program does not read. */
async function unstableFlags(): Promise<string[]> {
  const config = JSON.parse(await Deno.readTextFile(join(ROOT, "deno.json")));
  return (config.unstable ?? []).map((name: string) => `--unstable-${name}`);
}

/**
 * True if `deno compile` makes a working program here. Tried out, not guessed: the runtime may be missing, and a
 * DENORT_BIN that is really the Deno command line yields a program that ignores its payload.
 */
async function canCompile(out: string): Promise<boolean> {
  const directory = await Deno.makeTempDir({ dir: out, prefix: ".probe-" });
  try {
    const script = join(directory, "probe.js");
    await Deno.writeTextFile(script, `console.log("payload", Deno.args.join());`);
    const program = join(directory, "probe");
    await run(["compile", "--quiet", "--no-check", "--no-config", "--output", program, script], {
      signal: AbortSignal.timeout(COMPILE_PROBE_TIMEOUT_MS),
    });
    const { stdout } = await new Deno.Command(program, { args: ["runs"], stderr: "null" }).output();
    return new TextDecoder().decode(stdout) === "payload runs\n";
  } catch {
    return false;
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}

async function compile(bundles: string, target: string, flags: string[]): Promise<void> {
  const includes: string[] = [];
  for await (const entry of Deno.readDir(bundles)) {
    if (entry.name !== "main.js") includes.push("--include", join(bundles, entry.name));
  }
  const part = `${target}.part-${Deno.pid}`;
  const fixed = ["compile", "--quiet", "--no-check", "--no-config", "--allow-all", "--output", part];
  await run([...fixed, ...flags, ...includes, join(bundles, "main.js")]);
  await Deno.rename(part, target);
}

async function pack(bundles: string, target: string, flags: string[], out: string): Promise<void> {
  const launcher = join(out, ".launcher");
  const source = join(ROOT, "scripts", "launcher", "launcher.c");
  const options = ["-static", "-O2", "-s", "-std=c11", "-Wall", "-Wextra", "-Werror"];
  await run([...options, "-o", launcher, source], {}, Deno.env.get("CC") ?? "cc");
  const files: PayloadFile[] = [];
  for await (const entry of Deno.readDir(bundles)) {
    files.push({ name: entry.name, path: join(bundles, entry.name), mode: 0o400 });
  }
  files.sort((a, b) => a.name < b.name ? -1 : 1);
  const names = [PROGRAM, ...PERSONALITIES];
  await writePackage(target, launcher, [
    { label: "runtime", files: [{ name: "deno", path: Deno.execPath(), mode: 0o500 }] },
    { label: "app", files, links: Object.fromEntries(names.map((name) => [name, "../{runtime}/deno"])) },
  ], {
    group: "app",
    program: PROGRAM,
    script: "main.js",
    arguments: ["run", "-A", "--no-check", "--no-config", "--no-lock", "--no-remote", "--no-npm", ...flags],
  });
  await Deno.remove(launcher);
}

async function run(
  args: string[],
  options: { signal?: AbortSignal } = {},
  program: string = Deno.execPath(),
): Promise<void> {
  const env = { NO_COLOR: "1", DENO_NO_UPDATE_CHECK: "1" };
  let result: Deno.CommandOutput;
  try {
    result = await new Deno.Command(program, {
      args,
      cwd: ROOT,
      env,
      stdout: "piped",
      stderr: "piped",
      ...options,
    })
      .output();
  } catch (error) {
    throw new Error(`Cannot run "${program}": ${error instanceof Error ? error.message : error}`);
  }
  if (!result.success) {
    const text = new TextDecoder().decode(result.stderr).trim();
    throw new Error(`"${basename(program)} ${args[0]}" failed:\n${text}`);
  }
}

function ignoreNotFound(error: unknown): void {
  if (!(error instanceof Deno.errors.NotFound)) throw error;
}
