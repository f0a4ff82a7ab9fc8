// Answers texts with an exported model under Node, by the code of the page.
//
//     node check.mjs MODEL [model.onnx] < texts.jsonl    # a line each: {"text": …}
//
// Prints one answer a line. A file other than onnx/model_quantized.onnx is named second.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { Tokenizer } from "@huggingface/tokenizers";
import * as ort from "onnxruntime-web";
import { Classifier } from "./classifier.js";

const [folder, file = "model_quantized.onnx"] = process.argv.slice(2);
const json = (name) => JSON.parse(readFileSync(join(folder, name), "utf8"));

ort.env.wasm.numThreads = 1;
const session = await ort.InferenceSession.create(readFileSync(join(folder, "onnx", file)));
const settings = json("tokenizer_config.json");
const tokenizer = new Tokenizer(json("tokenizer.json"), settings);
const longest = settings.model_max_length;
let classifier;
try {
  const told = json("potstill.json");
  classifier = new Classifier(ort, session, tokenizer, json("config.json"), longest, told);
} catch (error) {
  console.error(`${folder}: ${error.message}`);
  process.exit(1);
}
const lines = readFileSync(0, "utf8").split("\n").filter(Boolean);
const answers = await classifier.classify(lines.map((line) => JSON.parse(line).text));
for (const answer of answers) console.log(JSON.stringify(answer));
