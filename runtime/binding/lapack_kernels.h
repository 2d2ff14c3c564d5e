/* The kernels of linear algebra for one type of numbers. lapack.c includes this with NUMBER (the type), REAL (that of
 * its parts), IS_COMPLEX and OF(name) (the name of this type's routine or kernel) set.
 *
 * Matrices lie row-major, one after the other, and LAPACK's column by column: what it sees of ours as they are is their
 * transposes, with the other triangle. Where that does, nothing is turned; else blocks are, in scratch. Complex numbers
 * are transposed and not conjugated, whatever is said of real ones.
 */

#if IS_COMPLEX
#define PARTS 2
#define FOR_COMPLEX(...) __VA_ARGS__,
#else
#define PARTS 1
#define FOR_COMPLEX(...)
#endif

typedef struct {
  void (*potrf)(char *uplo, int *n, NUMBER *a, int *lda, int *info);
  void (*getrf)(int *m, int *n, NUMBER *a, int *lda, int *pivots, int *info);
  void (*geqrf)(int *m, int *n, NUMBER *a, int *lda, NUMBER *tau, NUMBER *work, int *lwork, int *info);
  void (*orgqr)(int *m, int *n, int *k, NUMBER *a, int *lda, NUMBER *tau, NUMBER *work, int *lwork, int *info);
  void (*syevd)(char *jobz, char *uplo, int *n, NUMBER *a, int *lda, REAL *w, NUMBER *work, int *lwork,
                FOR_COMPLEX(REAL *rwork, int *lrwork) int *iwork, int *liwork, int *info);
  void (*gesdd)(char *jobz, int *m, int *n, NUMBER *a, int *lda, REAL *s, NUMBER *u, int *ldu, NUMBER *vt, int *ldvt,
                NUMBER *work, int *lwork, FOR_COMPLEX(REAL *rwork) int *iwork, int *info);
#if IS_COMPLEX
  void (*geev)(char *left, char *right, int *n, NUMBER *a, int *lda, NUMBER *w, NUMBER *vl, int *ldvl, NUMBER *vr,
               int *ldvr, NUMBER *work, int *lwork, REAL *rwork, int *info);
#else
  void (*geev)(char *left, char *right, int *n, REAL *a, int *lda, REAL *re, REAL *im, REAL *vl, int *ldvl, REAL *vr,
               int *ldvr, REAL *work, int *lwork, int *info);
#endif
  void (*sytrf)(char *uplo, int *n, NUMBER *a, int *lda, int *pivots, NUMBER *work, int *lwork, int *info);
  void (*sytrs)(char *uplo, int *n, int *k, NUMBER *a, int *lda, int *pivots, NUMBER *b, int *ldb, int *info);
  void (*hetrf)(char *uplo, int *n, NUMBER *a, int *lda, int *pivots, NUMBER *work, int *lwork, int *info);
  void (*hetrs)(char *uplo, int *n, int *k, NUMBER *a, int *lda, int *pivots, NUMBER *b, int *ldb, int *info);
  void (*trsv)(char *uplo, char *trans, char *diag, int *n, const NUMBER *a, int *lda, NUMBER *x, int *step);
  void (*trsm)(char *side, char *uplo, char *trans, char *diag, int *m, int *n, const NUMBER *alpha, const NUMBER *a,
               int *lda, NUMBER *b, int *ldb);
} OF(routines);

static OF(routines) OF(lapack);

/* ---- blocks -------------------------------------------------------------------------------------------- */

/* The rows x columns matrix with this distance between rows, turned: `to` has rows `columns`. */
static void OF(turn)(const NUMBER *from, int64_t row, int64_t rows, int64_t columns, NUMBER *to, int64_t to_row) {
  for (int64_t r0 = 0; r0 < rows; r0 += 16)
    for (int64_t c = 0; c < columns; c++)
      for (int64_t r = r0; r < rows && r < r0 + 16; r++)
        to[c * to_row + r] = from[r * row + c];
}

/* Exchanges rows and columns of a square matrix. */
static void OF(turn_in_place)(NUMBER *a, int64_t n) {
  for (int64_t r = 0; r < n; r++)
    for (int64_t c = 0; c < r; c++) {
      NUMBER kept = a[r * n + c];
      a[r * n + c] = a[c * n + r];
      a[c * n + r] = kept;
    }
}

static void OF(unit)(NUMBER *a, int64_t n) {
  memset(a, 0, (size_t)(n * n) * sizeof(NUMBER));
  for (int64_t i = 0; i < n; i++)
    a[i * n + i] = 1;
}

static bool OF(is_finite)(const NUMBER *a, int64_t count) {
  const REAL *parts = (const REAL *)a;
  int wrong = 0;
  for (int64_t i = 0; i < count * PARTS; i++)
    wrong |= !(parts[i] * 0 == 0);
  return !wrong;
}

/* Zeros above the diagonal. Of few elements, without the calls that a compiler makes of this. */
static void OF(clear_above)(NUMBER *a, int n) {
  for (int r = 0; r < n; r++) {
    NUMBER *row = a + (int64_t)r * n;
    if (n > 16)
      memset(row + r + 1, 0, (size_t)(n - 1 - r) * sizeof(NUMBER));
    for (int c = r + 1; n <= 16 && c < n; c++) {
      row[c] = 0;
      __asm__ volatile("" ::: "memory");
    }
  }
}

/* NaNs of results are the canonical one. */
static void OF(one_nan)(NUMBER *a, int64_t count) {
  REAL *parts = (REAL *)a;
  for (int64_t i = 0; i < count * PARTS; i++)
    parts[i] = parts[i] == parts[i] ? parts[i] : (REAL)NAN;
}

/* ---- factors ------------------------------------------------------------------------------------------- */

#define SMALL 16

#if !IS_COMPLEX
/* L of A = L L' in its place, of at most SMALL rows: a call of LAPACK takes longer than this. 0, or the order of the
 * first minor that is not positive. */
static int OF(root)(REAL *a, int n) {
  REAL column[SMALL];
  for (int j = 0; j < n; j++) {
    REAL rest = a[j * n + j];
    if (!(rest > 0))
      return j + 1;
    REAL top = a[j * n + j] = (REAL)sqrt(rest), inverse = 1 / top;
    for (int i = j + 1; i < n; i++)
      column[i] = a[i * n + j] *= inverse;
    for (int i = j + 1; i < n; i++)
      for (int k = j + 1; k <= i; k++)
        a[i * n + k] -= column[i] * column[k];
  }
  return 0;
}
#endif

/* L of A = L L', and 0 or the order of the first minor that is not positive: none with a NaN is, though not every
 * LAPACK says so, above all of complex numbers. */
static int OF(factor)(NUMBER *l, int n) {
  int info;
  OF(lapack).potrf("U", &n, l, &n, &info);
  for (int64_t j = 0; info == 0 && j < n; j++) {
    const REAL *parts = (const REAL *)(l + j * n + j);
    info = parts[0] == parts[0] ? 0 : (int)j + 1;
  }
  return info;
}

/* bufs: a, l, info, status; dims: n, checked, code */
static void OF(cholesky)(void *const *bufs, const int64_t *dims, int64_t lo, int64_t hi, void *scratch) {
  int n = (int)dims[0], info;
  int64_t count = dims[0] * dims[0];
  (void)scratch;
  for (int64_t i = lo; i < hi; i++) {
    NUMBER *l = (NUMBER *)bufs[1] + i * count;
    info = 0;
    if (n > 0) {
      memcpy(l, (const NUMBER *)bufs[0] + i * count, (size_t)count * sizeof(NUMBER));
#if IS_COMPLEX
      info = OF(factor)(l, n);
#else
      info = n <= SMALL ? OF(root)(l, n) : OF(factor)(l, n);
#endif
      OF(clear_above)(l, n);
      if (info > 0) /* else there is no NaN: each would have come to the diagonal */
        OF(one_nan)(l, count);
    }
    ((int32_t *)bufs[2])[i] = info;
    if (info > 0 && dims[1])
      failed(bufs[3], dims[2], i * (n + 1) + info);
  }
}

#if !IS_COMPLEX
/* L and U of A = P L U in its place, of at most SMALL rows and columns, as getrf finds them. 0, or the place of the
 * first zero on the diagonal of U. */
static int OF(eliminate)(REAL *a, int m, int n, int *pivots) {
  int info = 0, k = m < n ? m : n;
  for (int j = 0; j < k; j++) {
    REAL *row = a + (int64_t)j * n, top = row[j] < 0 ? -row[j] : row[j];
    int at = j;
    for (int i = j + 1; i < m; i++) {
      REAL here = a[i * n + j] < 0 ? -a[i * n + j] : a[i * n + j];
      at = here > top ? i : at;
      top = here > top ? here : top;
    }
    pivots[j] = at + 1;
    for (int c = 0; at != j && c < n; c++) {
      REAL kept = row[c];
      row[c] = a[at * n + c];
      a[at * n + c] = kept;
    }
    if (row[j] == 0) {
      info = info ? info : j + 1;
      continue;
    }
    REAL inverse = 1 / row[j];
    for (int i = j + 1; i < m; i++) {
      REAL *other = a + (int64_t)i * n;
      REAL factor = other[j] = inverse * 0 == 0 ? other[j] * inverse : other[j] / row[j];
      for (int c = j + 1; c < n; c++)
        other[c] -= factor * row[c];
    }
  }
  return info;
}
#endif

/* bufs: a, lu, pivots, info, status; dims: m, n, checked, code; scratch: m n */
static void OF(lu)(void *const *bufs, const int64_t *dims, int64_t lo, int64_t hi, void *scratch) {
  int m = (int)dims[0], n = (int)dims[1], info;
  int64_t count = dims[0] * dims[1], k = m < n ? m : n;
  NUMBER *a = (NUMBER *)scratch;
  for (int64_t i = lo; i < hi; i++) {
    info = 0;
    if (count > 0) {
      NUMBER *packed = (NUMBER *)bufs[1] + i * count;
      const NUMBER *given = (const NUMBER *)bufs[0] + i * count;
      int *pivots = (int *)bufs[2] + i * k;
#if !IS_COMPLEX
      if (m <= SMALL && n <= SMALL) {
        memcpy(packed, given, (size_t)count * sizeof(REAL));
        info = OF(eliminate)(packed, m, n, pivots);
      } else
#endif
      {
        OF(turn)(given, n, m, n, a, m);
        OF(lapack).getrf(&m, &n, a, &m, pivots, &info);
        OF(turn)(a, m, n, m, packed, n);
      }
      OF(one_nan)(packed, count);
    }
    ((int32_t *)bufs[3])[i] = info;
    if (info > 0 && dims[2])
      failed(bufs[4], dims[3], i * (k + 1) + info);
  }
}

/* bufs: a, ld, pivots, info, status; dims: n, whether a is its own conjugate transposed, checked, elements of work,
 * code; scratch: work. The lower triangle is read; what is above it is 0 in the result. */
static void OF(ldl)(void *const *bufs, const int64_t *dims, int64_t lo, int64_t hi, void *scratch) {
  int n = (int)dims[0], lwork = (int)dims[3], info;
  int64_t count = dims[0] * dims[0];
  for (int64_t i = lo; i < hi; i++) {
    info = 0;
    if (n > 0) {
      NUMBER *ld = (NUMBER *)bufs[1] + i * count;
      OF(turn)((const NUMBER *)bufs[0] + i * count, n, n, n, ld, n);
      (dims[1] ? OF(lapack).hetrf : OF(lapack).sytrf)("L", &n, ld, &n, (int *)bufs[2] + i * n, (NUMBER *)scratch,
                                                      &lwork, &info);
      OF(turn_in_place)(ld, n);
      OF(clear_above)(ld, n);
      OF(one_nan)(ld, count);
    }
    ((int32_t *)bufs[3])[i] = info;
    if (info > 0 && dims[2])
      failed(bufs[4], dims[4], i * (n + 1) + info);
  }
}

/* Whether these are pivots of a factorisation: below 0 in pairs, and within the matrix. */
static bool OF(are_pivots)(const int *pivots, int n) {
  for (int j = 0; j < n; j++) {
    bool pair = pivots[j] < 0;
    for (int k = j; k <= j + pair; k++)
      if (k >= n || (pivots[k] < 0) != pair || pivots[k] < -n || pivots[k] > n || pivots[k] == 0)
        return false;
    j += pair;
  }
  return true;
}

/* bufs: ld, pivots, b, x; dims: n, k, whether a is its own conjugate transposed; scratch: n n, n k */
static void OF(ldl_solve)(void *const *bufs, const int64_t *dims, int64_t lo, int64_t hi, void *scratch) {
  int n = (int)dims[0], k = (int)dims[1], info;
  int64_t count = dims[0] * dims[0], of_x = dims[0] * dims[1];
  NUMBER *ld = (NUMBER *)scratch, *right = ld + count;
  for (int64_t i = lo; i < hi && of_x > 0; i++) {
    NUMBER *x = (NUMBER *)bufs[3] + i * of_x;
    if (!OF(are_pivots)((const int *)bufs[1] + i * n, n)) {
      for (int64_t j = 0; j < of_x; j++)
        x[j] = (REAL)NAN;
      continue;
    }
    OF(turn)((const NUMBER *)bufs[0] + i * count, n, n, n, ld, n);
    OF(turn)((const NUMBER *)bufs[2] + i * of_x, k, n, k, right, n);
    (dims[2] ? OF(lapack).hetrs : OF(lapack).sytrs)("L", &n, &k, ld, &n, (int *)bufs[1] + i * n, right, &n, &info);
    OF(turn)(right, n, k, n, x, k);
    OF(one_nan)(x, of_x);
  }
}

/* ---- triangles ------------------------------------------------------------------------------------------ */

#if !IS_COMPLEX
/* The same for one column of at most SMALL elements: a call of LAPACK takes longer than this. */
static void OF(substitute)(const NUMBER *t, int n, NUMBER *x, bool upper, bool turned, bool unit) {
  bool down = upper == turned; /* from the first element on */
  int along = turned ? 1 : n;
  NUMBER inverse[SMALL];
  for (int i = 0; !unit && i < n; i++) /* at once, for one division waits for no other */
    inverse[i] = 1 / t[i * n + i];
  for (int step = 0; step < n; step++) {
    int i = down ? step : n - 1 - step;
    NUMBER found = x[i] = unit ? x[i] : x[i] * inverse[i];
    const NUMBER *line = t + (turned ? i * n : i);
    for (int j = down ? i + 1 : 0; j < (down ? n : i); j++)
      x[j] -= line[j * along] * found;
  }
}
#endif

/* x := t^-1 x, or with `turned` t'^-1 x, for a triangle of n x n, of which LAPACK sees the transpose; x has k columns.
 */
static void OF(solve)(const NUMBER *t, int n, NUMBER *x, int k, bool upper, bool turned, bool unit) {
  char *uplo = upper ? "L" : "U", *diag = unit ? "U" : "N";
  int step = 1;
  NUMBER one = 1;
#if !IS_COMPLEX
  if (k == 1 && n <= SMALL) {
    OF(substitute)(t, n, x, upper, turned, unit);
    return;
  }
#endif
  if (k == 1)
    OF(lapack).trsv(uplo, turned ? "N" : "T", diag, &n, t, &n, x, &step);
  else
    OF(lapack).trsm("R", uplo, turned ? "T" : "N", diag, &k, &n, &one, t, &n, x, &k);
}

/* Exchanges rows as the factorisation did; `back`: in the other order. */
static void OF(exchange)(NUMBER *x, int64_t k, const int32_t *pivots, int64_t n, bool back) {
  for (int64_t j = 0; j < n; j++) {
    int64_t r = back ? n - 1 - j : j, s = pivots[r] - INT64_C(1);
    for (int64_t c = 0; r != s && s >= 0 && s < n && c < k; c++) { /* others are of no factorisation */
      NUMBER kept = x[r * k + c];
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
    NUMBER *x = (NUMBER *)bufs[2] + i * n * k;
    memcpy(x, (const NUMBER *)bufs[1] + i * n * k, (size_t)(n * k) * sizeof(NUMBER));
    OF(solve)((const NUMBER *)bufs[0] + i * n * n, (int)n, x, (int)k, dims[2], dims[3], dims[4]);
    OF(one_nan)(x, n * k);
  }
}

/* bufs: a, lu, pivots, b, x; dims: n, k, transposed */
static void OF(solve_factored)(void *const *bufs, const int64_t *dims, int64_t lo, int64_t hi, void *scratch) {
  int64_t n = dims[0], k = dims[1];
  (void)scratch;
  for (int64_t i = lo; i < hi && n * k > 0; i++) {
    const NUMBER *lu = (const NUMBER *)bufs[1] + i * n * n;
    const int32_t *pivots = (const int32_t *)bufs[2] + i * n;
    NUMBER *x = (NUMBER *)bufs[4] + i * n * k;
    memcpy(x, (const NUMBER *)bufs[3] + i * n * k, (size_t)(n * k) * sizeof(NUMBER));
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

/* bufs: a, packed, tau; dims: m, n, elements of work; scratch: m n, work */
static void OF(geqrf)(void *const *bufs, const int64_t *dims, int64_t lo, int64_t hi, void *scratch) {
  int m = (int)dims[0], n = (int)dims[1], lwork = (int)dims[2], info;
  int64_t count = dims[0] * dims[1], k = m < n ? m : n;
  NUMBER *a = (NUMBER *)scratch, *work = a + count;
  for (int64_t i = lo; i < hi && count > 0; i++) {
    NUMBER *packed = (NUMBER *)bufs[1] + i * count, *tau = (NUMBER *)bufs[2] + i * k;
    OF(turn)((const NUMBER *)bufs[0] + i * count, n, m, n, a, m);
    OF(lapack).geqrf(&m, &n, a, &m, tau, work, &lwork, &info);
    OF(turn)(a, m, n, m, packed, n);
    OF(one_nan)(packed, count);
    OF(one_nan)(tau, k);
  }
}

/* bufs: a, q, r; dims: m, n, columns of q, elements of work; scratch: m max(n, columns), min(m, n), work */
static void OF(qr)(void *const *bufs, const int64_t *dims, int64_t lo, int64_t hi, void *scratch) {
  int m = (int)dims[0], n = (int)dims[1], columns = (int)dims[2], lwork = (int)dims[3], info;
  int k = m < n ? m : n;
  int64_t widest = n > columns ? n : columns;
  NUMBER *a = (NUMBER *)scratch, *tau = a + m * widest, *work = tau + k;
  for (int64_t i = lo; i < hi; i++) {
    NUMBER *q = (NUMBER *)bufs[1] + i * m * columns, *r = (NUMBER *)bufs[2] + i * columns * n;
    if (k == 0) {
      if (m > 0 && columns == m)
        OF(unit)(q, m);
      continue;
    }
    OF(turn)((const NUMBER *)bufs[0] + i * m * n, n, m, n, a, m);
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

/* bufs: a, values, vectors, status; dims: n, elements, parts and ints of work, code; scratch: those */
static void OF(eigh)(void *const *bufs, const int64_t *dims, int64_t lo, int64_t hi, void *scratch) {
  int n = (int)dims[0], lwork = (int)dims[1], lparts = (int)dims[2], liwork = (int)dims[3], info;
  int64_t count = dims[0] * dims[0];
  NUMBER *work = (NUMBER *)scratch;
  REAL *parts = (REAL *)(work + lwork);
  int *ints = (int *)(parts + lparts);
  for (int64_t i = lo; i < hi && n > 0; i++) {
    const NUMBER *a = (const NUMBER *)bufs[0] + i * count;
    NUMBER *v = (NUMBER *)bufs[2] + i * count;
    if (!OF(is_finite)(a, count)) {
      failed(bufs[3], dims[4], i);
      return;
    }
    OF(turn)(a, n, n, n, v, n);
    OF(lapack).syevd("V", "L", &n, v, &n, (REAL *)bufs[1] + i * n, work, &lwork, FOR_COMPLEX(parts, &lparts) ints,
                     &liwork, &info);
    if (info != 0)
      failed(bufs[3], dims[4], i);
    OF(turn_in_place)(v, n);
  }
}

/* bufs: a, values, vectors, status; dims: n, elements of work, code; scratch: a, vectors, work, 2 n parts. Values and
 * vectors are complex: of real matrices those that are not real come in pairs, of which LAPACK gives one. */
static void OF(eig)(void *const *bufs, const int64_t *dims, int64_t lo, int64_t hi, void *scratch) {
  int n = (int)dims[0], lwork = (int)dims[1], info, one = 1;
  int64_t count = dims[0] * dims[0];
  NUMBER *a = (NUMBER *)scratch, *v = a + count, *work = v + count;
  REAL *parts = (REAL *)(work + lwork);
  for (int64_t i = lo; i < hi && n > 0; i++) {
    REAL _Complex *values = (REAL _Complex *)bufs[1] + i * n, *vectors = (REAL _Complex *)bufs[2] + i * count;
    OF(turn)((const NUMBER *)bufs[0] + i * count, n, n, n, a, n);
    if (!OF(is_finite)(a, count)) {
      failed(bufs[3], dims[2], i);
      return;
    }
#if IS_COMPLEX
    OF(lapack).geev("N", "V", &n, a, &n, values, NULL, &one, v, &n, work, &lwork, parts, &info);
    OF(turn)(v, n, n, n, vectors, n);
#else
    REAL *im = parts + n;
    OF(lapack).geev("N", "V", &n, a, &n, parts, im, NULL, &one, v, &n, work, &lwork, &info);
    for (int c = 0; c < n; c++) {
      int first = im[c] < 0 ? c - 1 : c; /* of a pair, the one with the positive imaginary part comes first */
      REAL sign = im[c] == 0 ? 0 : im[c] > 0 ? 1 : -1, *value = (REAL *)(values + c);
      value[0] = parts[c], value[1] = im[c];
      for (int r = 0; r < n; r++) {
        REAL *number = (REAL *)(vectors + (int64_t)r * n + c);
        number[0] = v[(int64_t)first * n + r], number[1] = sign == 0 ? 0 : sign * v[(int64_t)(first + 1) * n + r];
      }
    }
#endif
    if (info != 0)
      failed(bufs[3], dims[2], i);
  }
}

/* bufs: a, u, s, vh, status; dims: m, n, columns of u, rows of vh, elements and parts of work, code; scratch: a, u, vh,
 * work, parts, 8 min(m, n) ints. The transpose would do, too, with other signs than NumPy and PyTorch give the vectors.
 */
static void OF(svd)(void *const *bufs, const int64_t *dims, int64_t lo, int64_t hi, void *scratch) {
  int m = (int)dims[0], n = (int)dims[1], columns = (int)dims[2], rows = (int)dims[3], lwork = (int)dims[4], info;
  int64_t k = m < n ? m : n, of_u = (int64_t)m * columns, of_vh = (int64_t)rows * n, count = (int64_t)m * n;
  NUMBER *a = (NUMBER *)scratch, *left = a + count, *right = left + of_u, *work = right + of_vh;
  REAL *parts = (REAL *)(work + lwork);
  int *ints = (int *)(parts + dims[5]);
  for (int64_t i = lo; i < hi; i++) {
    NUMBER *u = (NUMBER *)bufs[1] + i * of_u, *vh = (NUMBER *)bufs[3] + i * of_vh;
    if (k == 0) {
      if (columns == m && m > 0)
        OF(unit)(u, m);
      if (rows == n && n > 0)
        OF(unit)(vh, n);
      continue;
    }
    OF(turn)((const NUMBER *)bufs[0] + i * count, n, m, n, a, m);
    if (!OF(is_finite)(a, count)) {
      failed(bufs[4], dims[6], i);
      return;
    }
    OF(lapack).gesdd(columns == k && rows == k ? "S" : "A", &m, &n, a, &m, (REAL *)bufs[2] + i * k, left, &m, right,
                     &rows, work, &lwork, FOR_COMPLEX(parts) ints, &info);
    if (info != 0)
      failed(bufs[4], dims[6], i);
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
    memcpy((NUMBER *)bufs[2] + lo * count, (const NUMBER *)bufs[1] + lo * count,
           (size_t)((hi - lo) * count) * sizeof(NUMBER));
}

#undef PARTS
#undef FOR_COMPLEX
#undef SMALL
