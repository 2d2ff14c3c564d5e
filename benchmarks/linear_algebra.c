/* LAPACK's calls in a loop, on copies of the matrices, which they overwrite. linear_algebra.py builds it, and hands it
 * the addresses of the routines. */
#include <string.h>

typedef void (*gesv)(int *n, int *k, double *a, int *lda, int *pivots, double *b, int *ldb, int *info);
typedef void (*potrf)(char *uplo, int *n, double *a, int *lda, int *info);
typedef void (*gesdd)(char *jobz, int *m, int *n, double *a, int *lda, double *s, double *u, int *ldu, double *vt,
                      int *ldvt, double *work, int *lwork, int *iwork, int *info);

int solve(void *routine, const double *a, const double *b, double *x, double *scratch, int batch, int n) {
  int one = 1, info = 0, pivots[64], failed = 0;
  for (int i = 0; i < batch; i++) {
    memcpy(scratch, a + i * n * n, sizeof(double) * n * n);
    memcpy(x + i * n, b + i * n, sizeof(double) * n);
    ((gesv)routine)(&n, &one, scratch, &n, pivots, x + i * n, &n, &info);
    failed += info != 0;
  }
  return failed;
}

int cholesky(void *routine, const double *a, const double *b, double *x, double *scratch, int batch, int n) {
  int info = 0, failed = 0;
  (void)b, (void)scratch;
  for (int i = 0; i < batch; i++) {
    memcpy(x + i * n * n, a + i * n * n, sizeof(double) * n * n);
    ((potrf)routine)("L", &n, x + i * n * n, &n, &info);
    failed += info != 0;
  }
  return failed;
}

int svd(void *routine, const double *a, const double *b, double *x, double *scratch, int batch, int n) {
  int info = 0, failed = 0, room = 4 * n * n + 7 * n + 130 * n, ints[8 * 64];
  double *u = x, *vt = x + batch * n * n, *s = vt + batch * n * n;
  (void)b;
  for (int i = 0; i < batch; i++) {
    memcpy(scratch, a + i * n * n, sizeof(double) * n * n);
    ((gesdd)routine)("S", &n, &n, scratch, &n, s + i * n, u + i * n * n, &n, vt + i * n * n, &n, scratch + n * n, &room,
                     ints, &info);
    failed += info != 0;
  }
  return failed;
}
