/* Maps object files of kernels into the process: those that need nothing but themselves, which is what the compiler
 * makes on x86-64. Whatever else there is in one, LLVM's linker takes it. */
#include "binding.h"

#include <string.h>

#if defined(__linux__) && defined(__x86_64__)
#include <elf.h>
#include <sys/mman.h>
#include <unistd.h>

enum { MAX_SECTIONS = 64, MAX_BYTES = 1 << 28 };

typedef struct {
  const char *data;
  size_t bytes;
  const Elf64_Ehdr *head;
  const Elf64_Shdr *sections;
  size_t offsets[MAX_SECTIONS]; /* of what is mapped; SIZE_MAX: is not */
  size_t mapped;
} object_file;

/* `count` items of `size` bytes at `offset`, or NULL where the file ends before. */
static const void *piece(const object_file *o, uint64_t offset, uint64_t count, size_t size) {
  if (offset > o->bytes || count > (o->bytes - offset) / size || offset % 8 != 0)
    return NULL;
  return o->data + offset;
}

static bool read_head(object_file *o) {
  o->head = (const Elf64_Ehdr *)piece(o, 0, 1, sizeof *o->head);
  if (o->head == NULL || memcmp(o->head->e_ident, ELFMAG, SELFMAG) != 0 || o->head->e_ident[EI_CLASS] != ELFCLASS64 ||
      o->head->e_type != ET_REL || o->head->e_machine != EM_X86_64 || o->head->e_shnum > MAX_SECTIONS)
    return false;
  o->sections = (const Elf64_Shdr *)piece(o, o->head->e_shoff, o->head->e_shnum, sizeof *o->sections);
  return o->sections != NULL;
}

/* Gives code and constants a place; false for anything that is written, or has bytes that are not in the file. */
static bool place_sections(object_file *o) {
  for (int i = 0; i < o->head->e_shnum; i++) {
    const Elf64_Shdr *s = &o->sections[i];
    o->offsets[i] = SIZE_MAX;
    if (!(s->sh_flags & SHF_ALLOC) || s->sh_size == 0)
      continue;
    uint64_t align = s->sh_addralign > 0 ? s->sh_addralign : 1;
    if (s->sh_type != SHT_PROGBITS || (s->sh_flags & (SHF_WRITE | SHF_TLS)) != 0 || align > 4096 ||
        (align & (align - 1)) != 0 || s->sh_offset > o->bytes || s->sh_size > o->bytes - s->sh_offset)
      return false;
    o->offsets[i] = (o->mapped + align - 1) & ~(size_t)(align - 1);
    o->mapped = o->offsets[i] + s->sh_size;
  }
  return o->mapped > 0 && o->mapped < MAX_BYTES;
}

/* Where a symbol of the file lies in what is mapped; SIZE_MAX: nowhere. */
static size_t offset_of(const object_file *o, const Elf64_Sym *symbol) {
  int section = symbol->st_shndx;
  if (section == SHN_UNDEF || section >= o->head->e_shnum || o->offsets[section] == SIZE_MAX ||
      symbol->st_value > o->sections[section].sh_size)
    return SIZE_MAX;
  return o->offsets[section] + symbol->st_value;
}

static const Elf64_Sym *symbols_of(const object_file *o, uint32_t section, uint64_t *count) {
  const Elf64_Shdr *s = &o->sections[section];
  *count = s->sh_size / sizeof(Elf64_Sym);
  return s->sh_type != SHT_SYMTAB ? NULL : (const Elf64_Sym *)piece(o, s->sh_offset, *count, sizeof(Elf64_Sym));
}

/* Distances within the mapping, which is small enough for any of them. */
static bool relocate(const object_file *o, const Elf64_Shdr *s, char *memory) {
  uint64_t count = s->sh_size / sizeof(Elf64_Rela), n_symbols = 0;
  const Elf64_Rela *relocations = (const Elf64_Rela *)piece(o, s->sh_offset, count, sizeof *relocations);
  if (relocations == NULL || s->sh_link >= o->head->e_shnum || s->sh_info >= o->head->e_shnum)
    return false;
  const Elf64_Sym *symbols = symbols_of(o, s->sh_link, &n_symbols);
  size_t base = o->offsets[s->sh_info], size = o->sections[s->sh_info].sh_size;
  if (base == SIZE_MAX)
    return true; /* of notes, or of what debuggers read */
  for (uint64_t i = 0; i < count; i++) {
    const Elf64_Rela *r = &relocations[i];
    uint32_t type = ELF64_R_TYPE(r->r_info), index = ELF64_R_SYM(r->r_info);
    if (symbols == NULL || index >= n_symbols || (type != R_X86_64_PC32 && type != R_X86_64_PLT32) ||
        size < sizeof(int32_t) || r->r_offset > size - sizeof(int32_t) || r->r_addend < -MAX_BYTES ||
        r->r_addend > MAX_BYTES)
      return false;
    size_t target = offset_of(o, &symbols[index]);
    if (target == SIZE_MAX)
      return false;
    int32_t distance = (int32_t)((int64_t)target + r->r_addend - (int64_t)(base + r->r_offset));
    memcpy(memory + base + r->r_offset, &distance, sizeof distance);
  }
  return true;
}

static bool fill(const object_file *o, char *memory) {
  for (int i = 0; i < o->head->e_shnum; i++)
    if (o->offsets[i] != SIZE_MAX)
      memcpy(memory + o->offsets[i], o->data + o->sections[i].sh_offset, o->sections[i].sh_size);
  for (int i = 0; i < o->head->e_shnum; i++) {
    const Elf64_Shdr *s = &o->sections[i];
    if (s->sh_type == SHT_REL || (s->sh_type == SHT_RELA && !relocate(o, s, memory)))
      return false;
  }
  return true;
}

/* Where the function lies in what is mapped; SIZE_MAX: the file does not define it. */
static size_t find(const object_file *o, const char *name) {
  for (int i = 0; i < o->head->e_shnum; i++) {
    uint64_t count;
    const Elf64_Sym *symbols = symbols_of(o, (uint32_t)i, &count);
    uint32_t link = o->sections[i].sh_link;
    if (symbols == NULL || link >= o->head->e_shnum)
      continue;
    uint64_t bytes = o->sections[link].sh_size;
    if (o->sections[link].sh_offset > o->bytes || bytes > o->bytes - o->sections[link].sh_offset)
      return SIZE_MAX;
    const char *names = o->data + o->sections[link].sh_offset;
    for (uint64_t k = 0; k < count; k++)
      if (symbols[k].st_name < bytes && bytes - symbols[k].st_name > strlen(name) &&
          strcmp(names + symbols[k].st_name, name) == 0 && ELF64_ST_TYPE(symbols[k].st_info) == STT_FUNC)
        return offset_of(o, &symbols[k]);
  }
  return SIZE_MAX;
}

/* The address of the function, which stays there for good; NULL where the file is not of this kind. */
static void *map_object(const char *data, size_t bytes, const char *name) {
  object_file o = {.data = data, .bytes = bytes};
  if (!read_head(&o) || !place_sections(&o))
    return NULL;
  size_t at = find(&o, name), page = (size_t)sysconf(_SC_PAGESIZE), size = (o.mapped + page - 1) / page * page;
  if (at == SIZE_MAX)
    return NULL;
  char *memory = (char *)mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED)
    return NULL;
  if (fill(&o, memory) && mprotect(memory, size, PROT_READ | PROT_EXEC) == 0)
    return memory + at;
  munmap(memory, size);
  return NULL;
}
#else
static void *map_object(const char *data, size_t bytes, const char *name) {
  (void)data, (void)bytes, (void)name;
  return NULL;
}
#endif

PyObject *fb_map_object(PyObject *Py_UNUSED(self), PyObject *args) {
  Py_buffer code;
  const char *name;
  if (!PyArg_ParseTuple(args, "y*s", &code, &name))
    return NULL;
  void *address = ((uintptr_t)code.buf % 8) == 0 ? map_object((const char *)code.buf, (size_t)code.len, name) : NULL;
  PyBuffer_Release(&code);
  if (address == NULL)
    Py_RETURN_NONE;
  return PyLong_FromVoidPtr(address);
}
