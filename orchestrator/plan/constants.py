"""Every measured constant of the memory ledger, with what it stands for, where it was read, and on how much it rests.

A constant belongs to a mechanism of a runtime, never to an llm, a host or one load. Versions of vLLM count, since
the mechanism changed with them. What follows from a definition (bits of a block type) is not measured and stands
beside the code that uses it.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Constant:
    """A number with its unit; ``groups`` is how many independent groups of measured loads it rests on."""

    value: float
    unit: str
    mechanism: str
    source: str
    groups: int


#: Bytes that vLLM's sampler holds for each logit while memory is profiled, beside the logit itself.
SAMPLER_BYTES_SORTED = Constant(
    36.0,
    "bytes a logit",
    "top-k and top-p sort all logits of max_num_seqs requests at once: sorted copies, 64-bit indices, probabilities, "
    "their sums",
    "profiled peaks of vLLM 0.8 to 0.16 on vocabularies of 128256, 151936 and 201088",
    4,
)
SAMPLER_BYTES = Constant(
    12.5,
    "bytes a logit",
    "32-bit logits, their probabilities and one scratch copy; the sort was replaced in 0.17",
    "profiled peaks of vLLM 0.17 to 0.19 on vocabularies of 32000 to 262208, in 16 and 32 bits; of 2026 on 24 GB",
    3,
)
#: Rows of hidden width that are alive when the sampler is at its peak: the batch, and two copies for the requests.
SAMPLER_HIDDEN_COPIES = Constant(
    2.0,
    "rows a request",
    "hidden states gathered for the last token of each request, and their norm",
    "profiled peaks of vLLM 0.11 and 0.19 over hidden widths of 1024 to 8192",
    2,
)
PROFILE_BASE_MIB = Constant(
    40.0,
    "MiB",
    "input buffers, positions and block tables of the profiling run",
    "what the profiled peaks of vLLM 0.11 and 0.19 keep when vocabulary and width go to nought",
    2,
)
#: Rows of hidden width that are alive in a layer, beside the two or three of the intermediate width.
LAYER_HIDDEN_COPIES = Constant(
    2.0,
    "rows a token",
    "the residual and what the layer works on",
    "profiled peaks of vLLM before V1 at 2048, 20000, 29000 and 32768 tokens a batch",
    3,
)
LAYER_HIDDEN_COPIES_COMPILED = Constant(
    5.5,
    "rows a token",
    "the same in a compiled graph, which keeps more of them at once and pads",
    "profiled peaks of vLLM 0.19 on llms whose vocabulary is small, and of 0.10 at 16384 tokens a batch",
    2,
)
VISION_PROFILE_MIB = Constant(
    173.0,
    "MiB",
    "the picture tower's activations and the cache of encoded pictures, profiled together with the llm",
    "profiled peaks of vLLM 0.19 on seven llms with a tower, beside their own vocabulary's",
    1,
)
#: What does not go through torch's allocator: the driver's context as far as it grows, libraries' workspaces.
NON_TORCH_EARLY_MIB = Constant(
    210.0, "MiB", "driver context and library workspaces", "vLLM before V1 on RTX 3090, A10, T4 and 22 GB cards", 4
)
NON_TORCH_SORTED_MIB = Constant(
    135.0, "MiB", "driver context and library workspaces", "vLLM 0.10 and 0.11 on H100 and L40S", 2
)
NON_TORCH_MIB = Constant(
    256.0, "MiB", "driver context and library workspaces", "vLLM 0.17 to 0.19 and a nightly on 80 GB cards", 2
)
COMMUNICATION_EARLY_MIB = Constant(
    425.0,
    "MiB",
    "NCCL channels and the buffers of the custom all-reduce between cards with NVLink",
    "vLLM 0.11, H100",
    1,
)
COMMUNICATION_MIB = Constant(
    1860.0,
    "MiB",
    "NCCL channels, the custom all-reduce and symmetric memory between cards with NVLink",
    "vLLM 0.19 on two and four H100",
    1,
)
COMMUNICATION_A_CARD_MIB = Constant(
    30.0, "MiB a further card", "channels to each further card", "vLLM 0.19 on two and four H100", 1
)
COMMUNICATION_PCIE_MIB = Constant(
    75.0, "MiB", "NCCL channels between cards without NVLink", "vLLM 0.10 on eight L40S", 1
)
#: How many requests vLLM profiles at once: its defaults for cards of 70 GiB and more (but A100), and for the rest.
REQUESTS_LARGE_CARD = Constant(1024, "requests", "default of max_num_seqs", "vLLM's argument defaults", 3)
REQUESTS_SMALL_CARD = Constant(256, "requests", "default of max_num_seqs", "vLLM's argument defaults", 2)
BATCH_LARGE_CARD = Constant(8192, "tokens", "default of max_num_batched_tokens", "vLLM's argument defaults", 3)
BATCH_SMALL_CARD = Constant(2048, "tokens", "default of max_num_batched_tokens", "vLLM's argument defaults", 2)
#: Blocks of torch's allocator: a tensor of 10 MiB and more gets segments of 2 MiB, a rest of 1 MiB stays with it.
SEGMENT_MIB = Constant(2.0, "MiB", "rounding of large blocks", "PyTorch's CUDA caching allocator", 3)
KEPT_REST_MIB = Constant(1.0, "MiB", "a smaller rest is not split off", "PyTorch's CUDA caching allocator", 3)
LARGE_BLOCK_MIB = Constant(10.0, "MiB", "smaller blocks share segments", "PyTorch's CUDA caching allocator", 3)
SGLANG_OTHER_MIB = Constant(
    87.0, "MiB", "what pools of two kinds leave over; pools of one kind leave nothing", "SGLang 0.5 on two RTX 3090", 1
)
#: A CUDA graph keeps the launches of each layer, whatever is computed there.
GRAPH_LAYER_MIB = Constant(
    0.27,
    "MiB a layer and graph",
    "nodes and parameters of a layer's kernels in one captured graph",
    "graphs of vLLM 0.19 on H100 (46 llms), 0.10 and 0.27 on 24 GB cards",
    3,
)
#: llama.cpp: rows in 32 bits that a recurrent layer keeps of its mixed projections.
RECURRENT_COPIES = Constant(
    3.5, "rows a token", "query, key, value and the gate, beside the output", "compute buffers of hybrid llms", 5
)
INDEX_CELL = Constant(
    18.1,
    "bytes a token of the window and of the step",
    "masks, and what the index of a sparse llm scores beside them",
    "llama.cpp of 2026 with DeepSeek V4 Flash over four cards, 524288 tokens, on the first of them",
    1,
)
#: What is gone of a card before a runtime measures what is free.
CONTEXT_BEFORE_MIB = Constant(
    520.0,
    "MiB",
    "the driver's context of the process itself",
    "free memory at the start of vLLM 0.19 on one H100, and of SGLang on RTX 3090",
    2,
)
COMMUNICATION_BEFORE_MIB = Constant(
    1045.0,
    "MiB",
    "channels between cards with NVLink, opened first",
    "free memory at the start of vLLM 0.19 on H100",
    1,
)
EXLLAMA_COMPUTE_MIB = Constant(
    900.0, "MiB", "activations and the driver's context", "total memory of loads of ExLlamaV3, two llms", 2
)
DRIVER_CONTEXT_MIB = Constant(
    400.0, "MiB", "a CUDA context with a GGML back end's kernels", "free memory before and after, CUDA 12", 1
)
VISIBLE_SHARE = Constant(
    0.988,
    "of the nominal memory",
    "what a CUDA program sees of a card: the driver keeps a part",
    "RTX 3090 23.58 of 24 GiB, H100 79.19 of 79.65 GiB, L40S 44.42 of 44.99 GiB",
    4,
)
