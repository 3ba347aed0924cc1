/**
 * The end of a program that failed, told on standard error.
 *
 * L6, pure. Source: spec/cli.md §3.
 */
import { messagesOf } from "@vmm/errors/vmm_error.ts";
import { OperationError } from "./operation_error.ts";

/** Messages of any error, outermost first; an operation's without the words that only the API uses. */
export function errorChain(error: unknown): string[] {
  if (error instanceof OperationError) return [error.failure, ...messagesOf(error.cause)];
  if (error instanceof Error && error.cause instanceof OperationError) {
    return [error.message, ...errorChain(error.cause)];
  }
  const chain = messagesOf(error);
  return chain.length === 0 ? ["Unknown error"] : chain;
}

/** The text for standard error. `program` is the name users know it by. */
export function fatalErrorText(program: string, error: unknown): string {
  const chain = errorChain(error);
  if (chain.length === 1) return `Error: ${program} exited with the following error:\n  ${chain[0]}\n`;
  const lines = chain.map((message, index) => `  ${index}: ${message}\n`);
  return `Error: ${program} exited with the following chain of errors:\n${lines.join("")}`;
}
