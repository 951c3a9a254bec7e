"""PyTorch's row for every row of bench/cuda.bench.mjs, measured the same way, as lines of JSON."""

import json
import statistics
import time

import torch

ROUNDS = 9
ROUND_SECONDS = 0.1
ROWS = 16384
COLUMNS = 4096


def seconds(body, calls):
    torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(calls):
        body()
    torch.cuda.synchronize()
    return (time.perf_counter() - start) / calls


def report(name, amount, unit, body):
    seconds(body, 3)
    calls = max(1, round(ROUND_SECONDS / seconds(body, 3)))
    times = sorted(seconds(body, calls) for _ in range(ROUNDS))
    median = statistics.median(times)
    rate = amount / median / (1e9 if unit == "GB/s" else 1e12)
    row = {
        "name": name,
        unit: round(rate, 2),
        "seconds": {"median": median, "low": times[2], "high": times[6]},
    }
    print(json.dumps(row), flush=True)


def memory_rows(name, dtype, size):
    x = torch.randn(ROWS, COLUMNS, device="cuda").to(dtype)
    y = torch.randn(ROWS, COLUMNS, device="cuda").to(dtype)
    weight = torch.ones(COLUMNS, device="cuda", dtype=dtype)
    bias = torch.zeros(COLUMNS, device="cuda", dtype=dtype)
    count = ROWS * COLUMNS * size
    functional = torch.nn.functional
    report(f"copy {name}", 2 * count, "GB/s", lambda: x.clone())
    report(f"add {name}", 3 * count, "GB/s", lambda: x + y)
    report(f"gelu {name}", 2 * count, "GB/s", lambda: functional.gelu(x))
    report(f"sum of rows {name}", count, "GB/s", lambda: x.sum(1))
    report(f"softmax {name}", 2 * count, "GB/s", lambda: x.softmax(1))
    report(
        f"layerNorm {name}",
        2 * count,
        "GB/s",
        lambda: functional.layer_norm(x, (COLUMNS,), weight, bias),
    )


def product(name, dtype, size, precision=None):
    if precision:
        torch.set_float32_matmul_precision(precision)
    x = torch.randn(size, size, device="cuda").to(dtype)
    y = torch.randn(size, size, device="cuda").to(dtype)
    title = f"matmul {name}{' ' + precision if precision else ''} {size}"
    report(title, 2 * size**3, "TFLOP/s", lambda: x @ y)


def optimizer_row():
    count = 124_000_000
    parameter = torch.randn(count, device="cuda", requires_grad=True)
    parameter.grad = torch.randn(count, device="cuda")
    optimizer = torch.optim.AdamW([parameter], lr=1e-4, fused=True)
    report("AdamW float32, 124 M", 28 * count, "GB/s", optimizer.step)


def main():
    torch.manual_seed(1)
    print(json.dumps({"torch": torch.__version__, "cuda": torch.version.cuda}), flush=True)
    with torch.no_grad():
        memory_rows("float32", torch.float32, 4)
        memory_rows("bfloat16", torch.bfloat16, 2)
        product("bfloat16", torch.bfloat16, 4096)
        product("float16", torch.float16, 4096)
        product("float32", torch.float32, 4096, "highest")
        product("float32", torch.float32, 4096, "high")
        product("float64", torch.float64, 2048)
    optimizer_row()


if __name__ == "__main__":
    main()
