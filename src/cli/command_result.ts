/**
 * What a command line asks for: the result of parsing it, before anything is opened or started.
 *
 * L6, types only. Source: spec/cli.md §2, §3.
 */
import type { RestoreConfig } from "@schemas/api/migration.ts";
import type { VmConfig } from "@schemas/api/vm_config.ts";

/** Which program we are called as. */
export type Personality = "nephos" | "cloud-hypervisor" | "ch-remote";

/** A socket or file given by path, or inherited as an open descriptor. */
export type PathOrFd =
  | { readonly kind: "path"; readonly path: string }
  | { readonly kind: "fd"; readonly fd: number };

/** What happens at a system call outside the filter. */
export type SeccompAction = "true" | "false" | "log" | "errno";

/** Where log lines go and which. */
export interface LogOptions {
  /** Number of `-v`: 0 warnings, 1 info, 2 debug, 3 and more trace. */
  readonly verbosity: number;
  /** Created or truncated; standard error when absent. */
  readonly file?: string;
  /** Line template; the default one when absent. Not validated here. */
  readonly format?: string;
}

/** D-Bus service to offer. */
export interface DbusOptions {
  readonly serviceName: string;
  readonly objectPath: string;
  readonly systemBus: boolean;
}

/** Options of the VMM process, apart from the VM it runs. */
export interface VmmOptions {
  readonly apiSocket?: PathOrFd;
  readonly eventMonitor?: PathOrFd;
  readonly dbus?: DbusOptions;
  /** UNIX socket the debugger connects to; `VmConfig.gdb` is then set as well. */
  readonly gdbSocket?: string;
  /** Keep the process when the guest shuts down. */
  readonly noShutdown: boolean;
  readonly seccomp: SeccompAction;
  readonly log: LogOptions;
}

/** Start the VMM. With neither `vm` nor `restore` it waits for requests. Never both. */
export interface RunCommand {
  readonly kind: "run";
  readonly vmm: VmmOptions;
  /** Complete, validated configuration to create and boot. Descriptor numbers are this process's own. */
  readonly vm?: VmConfig;
  /** Snapshot to restore. */
  readonly restore?: RestoreConfig;
}

/** Print `text` as it is and exit: help, version, completion script, usage error. */
export interface PrintCommand {
  readonly kind: "print";
  readonly text: string;
  readonly stream: "stdout" | "stderr";
  readonly exitCode: number;
}

/** A value was refused: set logging up as told, then report the chain of `error` and exit with 1. */
export interface FailCommand {
  readonly kind: "fail";
  /** Outermost message; causes in `cause`. */
  readonly error: Error;
  readonly log: LogOptions;
}

/** Run the remote client: `runRemote(argv, program)` of `src/remote`. */
export interface RemoteCommand {
  readonly kind: "remote";
  /** Arguments after the program (and sub-command) name. */
  readonly argv: readonly string[];
  /** Name for usage texts: `ch-remote` or `nephos remote`. */
  readonly program: string;
}

/** Print the OpenAPI document on standard output and exit with 0. */
export interface OpenApiCommand {
  readonly kind: "openapi";
}

/** Everything a command line can ask for. */
export type CommandLine = RunCommand | PrintCommand | FailCommand | RemoteCommand | OpenApiCommand;
