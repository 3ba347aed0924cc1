/**
 * How a method call went: the reply that tells it, and the status REST has for the same.
 *
 * L6, pure. Source: error names and texts observed on the original.
 */
import type { OperationName } from "../command.ts";
import { OperationError } from "../operation_error.ts";
import { ROUTE_OF_OPERATION } from "../routes.ts";
import { type BusValue, MessageType, type OutgoingMessage } from "./message.ts";

const STANDARD = "org.freedesktop.DBus";

/** Error names. */
export const BusErrorName = {
  failed: `${STANDARD}.Error.Failed`,
  unknownMethod: `${STANDARD}.Error.UnknownMethod`,
  unknownInterface: `${STANDARD}.Error.UnknownInterface`,
  unknownObject: `${STANDARD}.Error.UnknownObject`,
  unknownProperty: `${STANDARD}.Error.UnknownProperty`,
  limits: `${STANDARD}.Error.LimitsExceeded`,
  signature: "org.freedesktop.zbus.Error",
} as const;

const STATUS_OK = 200;
const STATUS_FAILED = 500;
/** Statuses REST has for errors that are not an operation's. */
const STATUS_OF_ERROR: Readonly<Record<string, number>> = {
  [BusErrorName.failed]: 400,
  [BusErrorName.signature]: 400,
  [BusErrorName.unknownMethod]: 404,
  [BusErrorName.unknownInterface]: 404,
  [BusErrorName.unknownObject]: 404,
};

/** What a method call fails with, unless the operation itself fails. */
export class BusError extends Error {
  constructor(readonly errorName: string, message: string) {
    super(message);
  }
}

/** How a call went. */
export type CallResult =
  | { readonly failed: false; readonly value: BusValue | undefined }
  | { readonly failed: true; readonly error: unknown };

/** Whether the call was not looked at for its length. */
export function isTooLong(result: CallResult): boolean {
  return result.failed && result.error instanceof BusError && result.error.errorName === BusErrorName.limits;
}

/** The status REST answers for the same. `operation`: undefined for a method there is not. */
export function statusOf(operation: OperationName | undefined, result: CallResult): number {
  if (result.failed) {
    const { error } = result;
    if (error instanceof BusError) return STATUS_OF_ERROR[error.errorName] ?? STATUS_FAILED;
    return error instanceof OperationError ? error.status : STATUS_FAILED;
  }
  const isEmpty = result.value === undefined || result.value === "";
  return isEmpty && operation !== undefined ? ROUTE_OF_OPERATION.get(operation)!.emptyStatus : STATUS_OK;
}

/** The message that tells it, without whom it is for. */
export function replyTo(result: CallResult): Pick<OutgoingMessage, "type" | "errorName" | "body"> {
  if (!result.failed) {
    return { type: MessageType.reply, body: result.value === undefined ? [] : [result.value] };
  }
  const { error } = result;
  if (error instanceof BusError) {
    return { type: MessageType.error, errorName: error.errorName, body: [error.message] };
  }
  // The words of the operation only, without the cause, as the original answers here.
  const text = error instanceof OperationError
    ? error.failure
    : error instanceof Error
    ? error.message
    : String(error);
  return { type: MessageType.error, errorName: BusErrorName.failed, body: [text] };
}
