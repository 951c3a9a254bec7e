"""Times PyTorch's training step on the CPU: forward, backward and AdamW, with dropout.

    python3 pytorch_training.py --size small|full [--steps N] [--warmup N] [--threads N] [--serve]

Prints one line of JSON. With --serve it prints one line when the model is ready, and then, for every
line on standard input that holds a number of steps, runs as many and prints the seconds and CPU
seconds of each; so two libraries can take turns on a machine whose speed drifts. An empty line or the
end of input ends it.
"""

import argparse
import json
import statistics
import sys
import time

import torch

from distilbert import Config, DistilBertForSequenceClassification

# size: (configuration, batch, sequence length)
SIZES = {
    "full": (Config(), 4, 128),
    "small": (
        Config(vocab_size=8192, dim=256, n_heads=4, hidden_dim=1024, n_layers=4),
        16,
        128,
    ),
}


class Training:
    def __init__(self, size, seed=0):
        torch.manual_seed(seed)
        config, batch, length = SIZES[size]
        self.model = DistilBertForSequenceClassification(config).train()
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=5e-5)
        self.ids = torch.randint(1, config.vocab_size, (batch, length))
        self.mask = torch.ones(batch, length, dtype=torch.int64)
        self.labels = torch.randint(0, config.num_labels, (batch,))

    def step(self):
        """One step; returns its seconds, its seconds of CPU time, and its loss."""
        start, cpu_start = time.perf_counter(), time.process_time()
        self.optimizer.zero_grad(set_to_none=True)
        _, loss = self.model(self.ids, self.mask, self.labels)
        loss.backward()
        self.optimizer.step()
        value = loss.item()
        return time.perf_counter() - start, time.process_time() - cpu_start, value


def serve(training):
    print(json.dumps({"ready": True, "torch": torch.__version__}), flush=True)
    for line in sys.stdin:
        if not line.strip():
            break
        steps = [training.step() for _ in range(int(line))]
        seconds = [taken for taken, _, _ in steps]
        cpu_seconds = [taken for _, taken, _ in steps]
        print(json.dumps({"seconds": seconds, "cpuSeconds": cpu_seconds}), flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--warmup", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--serve", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    training = Training(options.size)
    for _ in range(options.warmup):
        training.step()
    if options.serve:
        serve(training)
        return
    steps = [training.step() for _ in range(options.steps)]
    seconds = [taken for taken, _, _ in steps]
    config, batch, length = SIZES[options.size]
    report = {
        "library": "pytorch",
        "version": torch.__version__,
        "size": options.size,
        "threads": options.threads,
        "batch": batch,
        "length": length,
        "parameters": sum(p.numel() for p in training.model.parameters()),
        "medianSeconds": statistics.median(seconds),
        "seconds": seconds,
        "loss": steps[-1][2],
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
