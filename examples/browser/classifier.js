// A classifier that `potstill export --format onnx` has written, run by onnxruntime-web.
// It knows neither page nor file system: whoever uses it hands in what was read.

const TASKS = ["classification", "multi-label", "regression"];
const USUAL_THRESHOLD = 0.5; // of many labels, where none was chosen
const INPUTS = { input_ids: "ids", attention_mask: "mask", token_type_ids: "types" };

export class Classifier {
  /**
   * @param {object} ort the module of onnxruntime-web
   * @param {object} session of the exported model
   * @param {object} tokenizer of @huggingface/tokenizers
   * @param {object} config the folder's config.json: its labels
   * @param {number} longest tokens at which a text is cut: model_max_length of tokenizer_config.json
   * @param {object} told the folder's potstill.json: its task and thresholds
   */
  constructor(ort, session, tokenizer, config, longest, told) {
    if (!TASKS.includes(told.task))
      throw new Error(`the task of this model is ${told.task}; allowed: ${TASKS.join(", ")}`);
    if (told.settings.pairs)
      throw new Error("this model reads pairs of texts; allowed: a model of single texts");
    Object.assign(this, { ort, session, tokenizer, config, longest, told });
  }

  /**
   * Return for each text its likeliest label and the score of each label; of many labels also those
   * whose score reaches its threshold; of a model of numbers `{ score }` alone.
   */
  async classify(texts) {
    const answers = [];
    for (const text of texts) answers.push(await this.#answer(text));
    return answers;
  }

  async #answer(text) {
    const logits = await this.#logits(this.#encoded(text));
    if (this.told.task === "regression") return { score: logits[0] };
    const isOne = this.told.task === "classification";
    const numbers = isOne ? softmax(logits) : logits.map(sigmoid);
    const scores = numbers.map((score, index) => ({ label: this.config.id2label[index], score }));
    const best = scores.reduce((one, other) => (other.score > one.score ? other : one));
    return { ...best, ...(isOne ? {} : { labels: this.#reached(scores) }), scores };
  }

  #reached(scores) {
    const { thresholds } = this.told;
    return scores
      .filter(({ label, score }) => score >= (thresholds[label] ?? USUAL_THRESHOLD))
      .map(({ label }) => label);
  }

  #encoded(text) {
    const { ids } = this.tokenizer.encode(text);
    const isLong = ids.length > this.longest;
    // What is cut keeps its last special token, as in potstill.
    const kept = isLong ? [...ids.slice(0, this.longest - 1), ids.at(-1)] : ids;
    return { ids: kept, mask: kept.map(() => 1), types: kept.map(() => 0) };
  }

  async #logits(encoded) {
    const feeds = {};
    for (const name of this.session.inputNames) {
      const numbers = BigInt64Array.from(encoded[INPUTS[name]], BigInt);
      feeds[name] = new this.ort.Tensor("int64", numbers, [1, numbers.length]);
    }
    const { logits } = await this.session.run(feeds);
    return Array.from(logits.data);
  }
}

function softmax(logits) {
  const highest = Math.max(...logits);
  const powers = logits.map((logit) => Math.exp(logit - highest));
  const sum = powers.reduce((total, power) => total + power, 0);
  return powers.map((power) => power / sum);
}

function sigmoid(logit) {
  return 1 / (1 + Math.exp(-logit));
}
