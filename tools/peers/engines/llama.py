"""llama.cpp through llama-cpp-python's C functions: a context with flash attention, one batch of the prompt, then single tokens."""

import ctypes
import time

import llama_cpp as ll
import measure


def batch_of(ids, first):
    batch = ll.llama_batch_init(len(ids), 0, 1)
    batch.n_tokens = len(ids)
    for i, token in enumerate(ids):
        batch.token[i] = token
        batch.pos[i] = first + i
        batch.n_seq_id[i] = 1
        batch.seq_id[i][0] = 0
        batch.logits[i] = i == len(ids) - 1
    return batch


class Engine:
    def __init__(self, options):
        start = time.perf_counter()
        ll.llama_backend_init()
        self.quiet = ll.llama_log_callback(lambda level, text, data: None)
        ll.llama_log_set(self.quiet, ctypes.c_void_p(0))
        model_params = ll.llama_model_default_params()
        model_params.n_gpu_layers = 0
        model_params.use_extra_bufts = not options.as_stored
        self.model = ll.llama_model_load_from_file(options.model.encode(), model_params)
        if not self.model:
            raise SystemExit(f"llama.cpp cannot load {options.model}")
        params = ll.llama_context_default_params()
        params.n_ctx = options.prompt_tokens + options.new_tokens + 64
        params.n_batch = params.n_ubatch = 512
        params.n_threads = params.n_threads_batch = options.threads
        self.context = ll.llama_init_from_model(self.model, params)
        self.load_s = time.perf_counter() - start
        self.position = 0

    def compute(self, ids):
        for at in range(0, len(ids), 512):
            batch = batch_of(ids[at:at + 512], self.position)
            if ll.llama_decode(self.context, batch) != 0:
                raise SystemExit("llama_decode failed")
            self.position += batch.n_tokens
            ll.llama_batch_free(batch)
        ll.llama_get_logits_ith(self.context, -1)

    def prompt(self, ids):
        ll.llama_memory_clear(ll.llama_get_memory(self.context), True)
        self.position = 0
        self.compute(ids)

    def decode(self, count):
        for i in range(count):
            logits = ll.llama_get_logits_ith(self.context, -1)
            self.compute([int(abs(logits[0]) * 1000) % 1000])


def main():
    options = measure.arguments("--as-stored")
    engine = Engine(options)
    measure.measure(options, engine.load_s, engine.prompt, engine.decode)


main()
