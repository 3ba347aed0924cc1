/**
 * The program's entry point: what was asked for, and how it ends.
 *
 * L7, main isolate. Ends by `Deno.exit` always: a Worker blocked in the kernel would keep the process otherwise.
 * Source: spec/cli.md §3.
 */
import { close } from "@ffi/libc/fd.ts";
import { resetSignal, umask, unblockSignals } from "@ffi/libc/thread.ts";
import { errorChain, fatalErrorText } from "@vmm/api/fatal_error.ts";
import { serveVmm } from "@vmm/api/serve_vmm.ts";
import { parseCommandLine, personalityOf } from "@vmm/cli/command_line.ts";
import type { CommandLine, LogOptions, Personality } from "@vmm/cli/command_result.ts";
import { chainLine, placeOf } from "@vmm/errors/place.ts";
import { log } from "@vmm/log/logger.ts";

/** Sockets and files we make are the user's alone. */
const UMASK = 0o077;

const PROGRAM_NAMES: Record<Personality, string> = {
  "nephos": "Nephos",
  "cloud-hypervisor": "Cloud Hypervisor",
  "ch-remote": "ch-remote",
};

/** Before that, what goes wrong is told on standard error only. */
let isLogSetUp = false;

function write(stream: "stdout" | "stderr", text: string): void {
  const bytes = new TextEncoder().encode(text);
  try {
    for (let done = 0; done < bytes.length;) done += Deno[stream].writeSync(bytes.subarray(done));
  } catch {
    // Nobody reads it: the exit code has to do.
  }
}

/** Reports what the program failed with; returns its exit code. */
function report(personality: Personality, error: unknown): number {
  if (isLogSetUp) {
    log.error(`Fatal error: ${chainLine(errorChain(error))}${placeOf(error)}`);
    if (error instanceof Error) log.debug(error.stack ?? error.message);
  }
  write("stderr", fatalErrorText(PROGRAM_NAMES[personality], error));
  return 1;
}

/** Sets the log up as told. @throws Error for a template or a file that cannot be used */
function configureLog({ verbosity, file, format }: LogOptions): void {
  log.configure({ verbosity, file, format });
  isLogSetUp = true;
}

/** Does what the command line asks for; returns the exit code. */
async function run(command: CommandLine, personality: Personality): Promise<number> {
  // The launcher held them back; a VMM lets them through once it listens.
  if (command.kind !== "run") unblockSignals(["SIGTERM", "SIGINT"]);
  switch (command.kind) {
    case "print":
      write(command.stream, command.text);
      return command.exitCode;
    case "fail":
      configureLog(command.log);
      return report(personality, command.error);
    case "remote": {
      const { runRemote } = await import("@vmm/remote/run_remote.ts");
      return await runRemote(command.argv, command.program);
    }
    case "openapi": {
      const { openApiDocument } = await import("@schemas/openapi.ts");
      write("stdout", `${JSON.stringify(openApiDocument(), null, 2)}\n`);
      return 0;
    }
    case "run": {
      configureLog(command.vmm.log);
      const { code, error } = await serveVmm(command, personality, {
        closeDescriptor: close,
        unblockSignals,
        resetSignal,
      });
      return code === 0 ? 0 : report(personality, error);
    }
    default:
      command satisfies never;
      return 1;
  }
}

umask(UMASK);
const personality = personalityOf(Deno.env.get("NEPHOS_ARGV0") ?? "nephos");
try {
  Deno.exit(await run(await parseCommandLine(Deno.args, personality), personality));
} catch (error) {
  Deno.exit(report(personality, error));
}
