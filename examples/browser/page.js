// The page: reads the model from ./model, answers while somebody types. Nothing leaves the machine.

import * as ort from "./node_modules/onnxruntime-web/dist/ort.wasm.bundle.min.mjs";
import { Tokenizer } from "./node_modules/@huggingface/tokenizers/dist/tokenizers.mjs";
import { Classifier } from "./classifier.js";

const MODEL = "./model";
const WAIT_MS = 150; // after the last key

const input = document.querySelector("#text");
const output = document.querySelector("#answer");

async function json(name) {
  const response = await fetch(`${MODEL}/${name}`);
  if (!response.ok) throw new Error(`${MODEL}/${name}: ${response.status}`);
  return response.json();
}

async function open() {
  ort.env.wasm.wasmPaths = "./node_modules/onnxruntime-web/dist/";
  const [tokenizer, settings, config, told, session] = await Promise.all([
    json("tokenizer.json"),
    json("tokenizer_config.json"),
    json("config.json"),
    json("potstill.json"),
    ort.InferenceSession.create(`${MODEL}/onnx/model_quantized.onnx`),
  ]);
  const tokens = new Tokenizer(tokenizer, settings);
  return new Classifier(ort, session, tokens, config, settings.model_max_length, told);
}

function show(answer) {
  if (!answer.scores) return output.replaceChildren(answer.score.toFixed(3)); // a number
  const rows = answer.scores
    .toSorted((one, other) => other.score - one.score)
    .map(({ label, score }) => {
      const row = document.createElement("li");
      row.textContent = `${label} ${(100 * score).toFixed(1)} %`;
      row.style.setProperty("--share", score);
      if (answer.labels?.includes(label)) row.style.fontWeight = "bold"; // of many: those answered
      return row;
    });
  output.replaceChildren(...rows);
}

try {
  const classifier = await open();
  let timer;
  input.disabled = false;
  input.placeholder = "Type a text";
  input.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(async () => show((await classifier.classify([input.value]))[0]), WAIT_MS);
  });
} catch (error) {
  input.placeholder = `No model: ${error.message}. See README.md`;
}
