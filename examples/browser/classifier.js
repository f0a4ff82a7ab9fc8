// A classifier that `potstill export --format onnx` has written, run by onnxruntime-web.
// It knows neither page nor file system: whoever uses it hands in what was read.

const INPUTS = { input_ids: "ids", attention_mask: "mask", token_type_ids: "types" };

export class Classifier {
  /**
   * @param {object} ort the module of onnxruntime-web
   * @param {object} session of the exported model
   * @param {object} tokenizer of @huggingface/tokenizers
   * @param {object} config the folder's config.json: its labels
   * @param {number} longest tokens at which a text is cut: model_max_length of tokenizer_config.json
   */
  constructor(ort, session, tokenizer, config, longest) {
    Object.assign(this, { ort, session, tokenizer, config, longest });
  }

  /** Return for each text its label, and the share of each label. */
  async classify(texts) {
    const answers = [];
    for (const text of texts) answers.push(await this.#answer(text));
    return answers;
  }

  async #answer(text) {
    const logits = await this.#logits(this.#encoded(text));
    const shares = softmax(logits);
    const best = shares.indexOf(Math.max(...shares));
    const labels = this.config.id2label;
    return {
      label: labels[best],
      score: shares[best],
      scores: shares.map((score, index) => ({ label: labels[index], score })),
    };
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
