/**
 * The body of an answer that reports an error.
 *
 * L0. Source: spec/rest-api.md §1.2.
 */
import { z } from "zod";
import { type JsonResult, readJson } from "@schemas/json/reader.ts";
import { text } from "@schemas/primitives.ts";

/** Messages, outermost first. */
export const ErrorMessagesSchema = z.array(text());

/** The messages in `body`, or why there are none, in the original's words. Never throws. */
export const readErrorMessages = (body: string): JsonResult<string[]> => readJson(ErrorMessagesSchema, body);
