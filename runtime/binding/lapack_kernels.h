/* The kernels of linear algebra for one type of numbers. lapack.c includes this with REAL (the type), OF(name) (the
 * name of this type's routine or kernel) and NOT_A_NUMBER set.
 *
 * Matrices lie row-major, one after the other, and LAPACK's column by column: what it sees of ours as they are is their
 * transposes, with the other triangle. Where that does, nothing is turned; else blocks are, in scratch.
 */

typedef struct {
  void (*potrf)(char *uplo, int *n, REAL *a, int *lda, int *info);
  void (*getrf)(int *m, int *n, REAL *a, int *lda, int *pivots, int *info);
  void (*geqrf)(int *m, int *n, REAL *a, int *lda, REAL *tau, REAL *work, int *lwork, int *info);
  void (*orgqr)(int *m, int *n, int *k, REAL *a, int *lda, REAL *tau, REAL *work, int *lwork, int *info);
  void (*syevd)(char *jobz, char *uplo, int *n, REAL *a, int *lda, REAL *w, REAL *work, int *lwork, int *iwork,
                int *liwork, int *info);
  void (*gesdd)(char *jobz, int *m, int *n, REAL *a, int *lda, REAL *s, REAL *u, int *ldu, REAL *vt, int *ldvt,
                REAL *work, int *lwork, int *iwork, int *info);
  void (*trsv)(char *uplo, char *trans, char *diag, int *n, const REAL *a, int *lda, REAL *x, int *step);
  void (*trsm)(char *side, char *uplo, char *trans, char *diag, int *m, int *n, const REAL *alpha, const REAL *a,
               int *lda, REAL *b, int *ldb);
} OF(routines);

static OF(routines) OF(lapack);

/* ---- blocks -------------------------------------------------------------------------------------------- */

/* The rows x columns matrix with this distance between rows, turned: `to` has rows `columns`. */
static void OF(turn)(const REAL *from, int64_t row, int64_t rows, int64_t columns, REAL *to, int64_t to_row) {
  for (int64_t r0 = 0; r0 < rows; r0 += 16)
    for (int64_t c = 0; c < columns; c++)
      for (int64_t r = r0; r < rows && r < r0 + 16; r++)
        to[c * to_row + r] = from[r * row + c];
}

static void OF(unit)(REAL *a, int64_t n) {
  memset(a, 0, (size_t)(n * n) * sizeof(REAL));
  for (int64_t i = 0; i < n; i++)
    a[i * n + i] = 1;
}

static bool OF(is_finite)(const REAL *a, int64_t count) {
  int wrong = 0;
  for (int64_t i = 0; i < count; i++)
    wrong |= !(a[i] * 0 == 0);
  return !wrong;
}

/* Zeros above the diagonal. Of few elements, without the calls that a compiler makes of this. */
static void OF(clear_above)(REAL *a, int n) {
  for (int r = 0; r < n; r++) {
    REAL *row = a + (int64_t)r * n;
    if (n > 16)
      memset(row + r + 1, 0, (size_t)(n - 1 - r) * sizeof(REAL));
    for (int c = r + 1; n <= 16 && c < n; c++) {
      row[c] = 0;
      __asm__ volatile("" ::: "memory");
    }
  }
}

/* NaNs of results are the canonical one. */
static void OF(one_nan)(REAL *a, int64_t count) {
  for (int64_t i = 0; i < count; i++)
    a[i] = a[i] == a[i] ? a[i] : (REAL)NAN;
}

/* ---- factors ------------------------------------------------------------------------------------------- */

/* bufs: a, l, info, status; dims: n, checked, code */
static void OF(cholesky)(void *const *bufs, const int64_t *dims, int64_t lo, int64_t hi, void *scratch) {
  int n = (int)dims[0], info;
  int64_t count = dims[0] * dims[0];
  (void)scratch;
  for (int64_t i = lo; i < hi; i++) {
    REAL *l = (REAL *)bufs[1] + i * count;
    info = 0;
    if (n > 0) {
      memcpy(l, (const REAL *)bufs[0] + i * count, (size_t)count * sizeof(REAL));
      OF(lapack).potrf("U", &n, l, &n, &info);
      OF(clear_above)(l, n);
      if (info > 0) /* else there is no NaN: each would have come to the diagonal */
        OF(one_nan)(l, count);
    }
    ((int32_t *)bufs[2])[i] = info;
    if (info > 0 && dims[1])
      failed(bufs[3], dims[2], i * (n + 1) + info);
  }
}

/* bufs: a, lu, pivots, info, status; dims: m, n, checked, code; scratch: m n */
static void OF(lu)(void *const *bufs, const int64_t *dims, int64_t lo, int64_t hi, void *scratch) {
  int m = (int)dims[0], n = (int)dims[1], info;
  int64_t count = dims[0] * dims[1], k = m < n ? m : n;
  REAL *a = (REAL *)scratch;
  for (int64_t i = lo; i < hi; i++) {
    info = 0;
    if (count > 0) {
      REAL *packed = (REAL *)bufs[1] + i * count;
      OF(turn)((const REAL *)bufs[0] + i * count, n, m, n, a, m);
      OF(lapack).getrf(&m, &n, a, &m, (int *)bufs[2] + i * k, &info);
      OF(turn)(a, m, n, m, packed, n);
      OF(one_nan)(packed, count);
    }
    ((int32_t *)bufs[3])[i] = info;
    if (info > 0 && dims[2])
      failed(bufs[4], dims[3], i * (k + 1) + info);
  }
}

/* ---- triangles ------------------------------------------------------------------------------------------ */

#define SMALL 16

/* The same for one column of at most SMALL elements: a call of LAPACK takes longer than this. */
static void OF(substitute)(const REAL *t, int n, REAL *x, bool upper, bool turned, bool unit) {
  bool down = upper == turned; /* from the first element on */
  int along = turned ? 1 : n;
  REAL inverse[SMALL];
  for (int i = 0; !unit && i < n; i++) /* at once, for one division waits for no other */
    inverse[i] = 1 / t[i * n + i];
  for (int step = 0; step < n; step++) {
    int i = down ? step : n - 1 - step;
    REAL found = x[i] = unit ? x[i] : x[i] * inverse[i];
    const REAL *line = t + (turned ? i * n : i);
    for (int j = down ? i + 1 : 0; j < (down ? n : i); j++)
      x[j] -= line[j * along] * found;
  }
}

/* x := t^-1 x, or with `turned` t'^-1 x, for a triangle of n x n, of which LAPACK sees the transpose; x has k columns.
 */
static void OF(solve)(const REAL *t, int n, REAL *x, int k, bool upper, bool turned, bool unit) {
  char *uplo = upper ? "L" : "U", *diag = unit ? "U" : "N";
  int step = 1;
  REAL one = 1;
  if (k == 1 && n <= SMALL)
    OF(substitute)(t, n, x, upper, turned, unit);
  else if (k == 1)
    OF(lapack).trsv(uplo, turned ? "N" : "T", diag, &n, t, &n, x, &step);
  else
    OF(lapack).trsm("R", uplo, turned ? "T" : "N", diag, &k, &n, &one, t, &n, x, &k);
}

/* Exchanges rows as the factorisation did; `back`: in the other order. */
static void OF(exchange)(REAL *x, int64_t k, const int32_t *pivots, int64_t n, bool back) {
  for (int64_t j = 0; j < n; j++) {
    int64_t r = back ? n - 1 - j : j, s = pivots[r] - INT64_C(1);
    for (int64_t c = 0; r != s && s >= 0 && s < n && c < k; c++) { /* others are of no factorisation */
      REAL kept = x[r * k + c];
      x[r * k + c] = x[s * k + c];
      x[s * k + c] = kept;
    }
  }
}

/* bufs: a, b, x; dims: n, k, upper, transposed, unit */
static void OF(triangular_solve)(void *const *bufs, const int64_t *dims, int64_t lo, int64_t hi, void *scratch) {
  int64_t n = dims[0], k = dims[1];
  (void)scratch;
  for (int64_t i = lo; i < hi && n * k > 0; i++) {
    REAL *x = (REAL *)bufs[2] + i * n * k;
    memcpy(x, (const REAL *)bufs[1] + i * n * k, (size_t)(n * k) * sizeof(REAL));
    OF(solve)((const REAL *)bufs[0] + i * n * n, (int)n, x, (int)k, dims[2], dims[3], dims[4]);
    OF(one_nan)(x, n * k);
  }
}

/* bufs: a, lu, pivots, b, x; dims: n, k, transposed */
static void OF(solve_factored)(void *const *bufs, const int64_t *dims, int64_t lo, int64_t hi, void *scratch) {
  int64_t n = dims[0], k = dims[1];
  (void)scratch;
  for (int64_t i = lo; i < hi && n * k > 0; i++) {
    const REAL *lu = (const REAL *)bufs[1] + i * n * n;
    const int32_t *pivots = (const int32_t *)bufs[2] + i * n;
    REAL *x = (REAL *)bufs[4] + i * n * k;
    memcpy(x, (const REAL *)bufs[3] + i * n * k, (size_t)(n * k) * sizeof(REAL));
    if (dims[2]) {
      OF(solve)(lu, (int)n, x, (int)k, true, true, false);
      OF(solve)(lu, (int)n, x, (int)k, false, true, true);
      OF(exchange)(x, k, pivots, n, true);
    } else {
      OF(exchange)(x, k, pivots, n, false);
      OF(solve)(lu, (int)n, x, (int)k, false, false, true);
      OF(solve)(lu, (int)n, x, (int)k, true, false, false);
    }
    OF(one_nan)(x, n * k);
  }
}

/* ---- orthogonal factors --------------------------------------------------------------------------------- */

/* bufs: a, q, r; dims: m, n, columns of q, elements of work; scratch: m max(n, columns), min(m, n), work */
static void OF(qr)(void *const *bufs, const int64_t *dims, int64_t lo, int64_t hi, void *scratch) {
  int m = (int)dims[0], n = (int)dims[1], columns = (int)dims[2], lwork = (int)dims[3], info;
  int k = m < n ? m : n;
  int64_t widest = n > columns ? n : columns;
  REAL *a = (REAL *)scratch, *tau = a + m * widest, *work = tau + k;
  for (int64_t i = lo; i < hi; i++) {
    REAL *q = (REAL *)bufs[1] + i * m * columns, *r = (REAL *)bufs[2] + i * columns * n;
    if (k == 0) {
      if (m > 0 && columns == m)
        OF(unit)(q, m);
      continue;
    }
    OF(turn)((const REAL *)bufs[0] + i * m * n, n, m, n, a, m);
    OF(lapack).geqrf(&m, &n, a, &m, tau, work, &lwork, &info);
    for (int64_t row = 0; row < columns; row++)
      for (int64_t c = 0; c < n; c++)
        r[row * n + c] = row <= c && row < k ? a[c * m + row] : 0;
    OF(lapack).orgqr(&m, &columns, &k, a, &m, tau, work, &lwork, &info);
    OF(turn)(a, m, columns, m, q, columns);
    OF(one_nan)(q, (int64_t)m * columns);
    OF(one_nan)(r, (int64_t)columns * n);
  }
}

/* bufs: a, values, vectors, status; dims: n, elements of work, ints of work, code; scratch: those */
static void OF(eigh)(void *const *bufs, const int64_t *dims, int64_t lo, int64_t hi, void *scratch) {
  int n = (int)dims[0], lwork = (int)dims[1], liwork = (int)dims[2], info;
  int64_t count = dims[0] * dims[0];
  REAL *work = (REAL *)scratch;
  for (int64_t i = lo; i < hi && n > 0; i++) {
    const REAL *a = (const REAL *)bufs[0] + i * count;
    REAL *v = (REAL *)bufs[2] + i * count;
    if (!OF(is_finite)(a, count)) {
      failed(bufs[3], dims[3], i);
      return;
    }
    OF(turn)(a, n, n, n, v, n);
    OF(lapack).syevd("V", "L", &n, v, &n, (REAL *)bufs[1] + i * n, work, &lwork, (int *)(work + lwork), &liwork, &info);
    if (info != 0)
      failed(bufs[3], dims[3], i);
    for (int64_t r = 0; r < n; r++)
      for (int64_t c = 0; c < r; c++) {
        REAL kept = v[r * n + c];
        v[r * n + c] = v[c * n + r];
        v[c * n + r] = kept;
      }
  }
}

/* bufs: a, u, s, vh, status; dims: m, n, columns of u, rows of vh, elements of work, code; scratch: a, u, vh, work, 8
 * min(m, n) ints. The transpose would do, too, with other signs than NumPy and PyTorch give the vectors. */
static void OF(svd)(void *const *bufs, const int64_t *dims, int64_t lo, int64_t hi, void *scratch) {
  int m = (int)dims[0], n = (int)dims[1], columns = (int)dims[2], rows = (int)dims[3], lwork = (int)dims[4], info;
  int64_t k = m < n ? m : n, of_u = (int64_t)m * columns, of_vh = (int64_t)rows * n, count = (int64_t)m * n;
  REAL *a = (REAL *)scratch, *left = a + count, *right = left + of_u, *work = right + of_vh;
  for (int64_t i = lo; i < hi; i++) {
    REAL *u = (REAL *)bufs[1] + i * of_u, *vh = (REAL *)bufs[3] + i * of_vh;
    if (k == 0) {
      if (columns == m && m > 0)
        OF(unit)(u, m);
      if (rows == n && n > 0)
        OF(unit)(vh, n);
      continue;
    }
    OF(turn)((const REAL *)bufs[0] + i * count, n, m, n, a, m);
    if (!OF(is_finite)(a, count)) {
      failed(bufs[4], dims[5], i);
      return;
    }
    OF(lapack).gesdd(columns == k && rows == k ? "S" : "A", &m, &n, a, &m, (REAL *)bufs[2] + i * k, left, &m, right,
                     &rows, work, &lwork, (int *)(work + lwork), &info);
    if (info != 0)
      failed(bufs[4], dims[5], i);
    OF(turn)(left, m, columns, m, u, columns);
    OF(turn)(right, rows, n, rows, vh, n);
  }
}

/* ---- values that are there ------------------------------------------------------------------------------ */

/* bufs: a, p, result; dims: elements of one matrix */
static void OF(pseudo_inverse)(void *const *bufs, const int64_t *dims, int64_t lo, int64_t hi, void *scratch) {
  int64_t count = dims[0];
  (void)scratch;
  if (count > 0)
    memcpy((REAL *)bufs[2] + lo * count, (const REAL *)bufs[1] + lo * count,
           (size_t)((hi - lo) * count) * sizeof(REAL));
}
