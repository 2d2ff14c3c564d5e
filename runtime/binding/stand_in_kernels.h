/* Included by stand_in.c for each type: REAL, its FMA, and OF(name). */

FUSED static void OF(multiply_add)(const void *xs, const void *ys, const void *zs, void *results, const int64_t *steps,
                                   int64_t n) {
  const REAL *x = xs, *y = ys, *z = zs;
  REAL *out = results;
  for (int64_t i = 0; i < n; i++)
    out[i] = FMA(x[i * steps[0]], y[i * steps[1]], z[i * steps[2]]);
}

/* An inner fold: lanes within chunks, lanes in halves, chunks in pairs. `step` is from one element of y to the next. */
FUSED static REAL OF(dot)(const REAL *x, const REAL *y, int64_t step, int64_t k) {
  REAL sums[64]; /* of 1, 2, 4, ... chunks: as many as the number of chunks so far has bits that are set */
  int n_sums = 0;
  for (int64_t start = 0, chunk = 1; start < k; start += CHUNK, chunk++) {
    REAL lanes[LANES] = {0};
    int64_t end = start + CHUNK < k ? start + CHUNK : k;
    for (int64_t i = start; i < end; i += LANES) {
      int64_t n = end - i < LANES ? end - i : LANES;
      for (int64_t j = 0; j < n; j++)
        lanes[j] = FMA(x[i + j], y[(i + j) * step], lanes[j]);
    }
    for (int half = LANES / 2; half > 0; half /= 2)
      for (int j = 0; j < half; j++)
        lanes[j] += lanes[j + half];
    sums[n_sums++] = lanes[0];
    for (int64_t pairs = chunk; pairs % 2 == 0; pairs /= 2, n_sums--)
      sums[n_sums - 2] += sums[n_sums - 1];
  }
  for (; n_sums > 1; n_sums--)
    sums[n_sums - 2] += sums[n_sums - 1];
  return n_sums > 0 ? sums[0] : 0;
}

/* A row of the product: chains along k within blocks, the blocks' results in order. */
FUSED static void OF(row)(const REAL *x, const REAL *y, REAL *out, REAL *chain, int64_t k, int64_t n) {
  for (int64_t j = 0; j < n; j++)
    out[j] = 0;
  for (int64_t start = 0; start < k; start += BLOCK) {
    REAL *into = start == 0 ? out : chain;
    for (int64_t j = 0; j < n && start > 0; j++)
      chain[j] = 0;
    for (int64_t i = start; i < k && i < start + BLOCK; i++)
      for (int64_t j = 0; j < n; j++)
        into[j] = FMA(x[i], y[i * n + j], into[j]);
    for (int64_t j = 0; j < n && start > 0; j++)
      out[j] += chain[j];
  }
}

/* False where there is no memory. */
static bool OF(products)(const void *xs, const void *ys, void *results, int64_t batch, int64_t m, int64_t k,
                         int64_t n) {
  const REAL *x = xs, *y = ys;
  REAL *out = results;
  REAL *chain = PyMem_RawMalloc((size_t)n * sizeof *chain);
  if (chain == NULL)
    return false;
  for (int64_t b = 0; b < batch; b++, x += m * k, y += k * n)
    for (int64_t i = 0; i < m; i++, out += n) {
      if (m == 1 || n == 1)
        for (int64_t j = 0; j < n; j++)
          out[j] = OF(dot)(x + i * k, y + j, n, k);
      else
        OF(row)(x + i * k, y, out, chain, k, n);
    }
  PyMem_RawFree(chain);
  return true;
}
