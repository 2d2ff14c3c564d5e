/* What a run of a plan does on devices other than the CPU. Next: device.h, plan_run.c. */
#include <string.h>

#include "device.h"
#include "plan.h"

static fb_device *device_of(const fb_plan_spec *spec, int32_t k) { return k == 0 ? NULL : spec->devices[k - 1].device; }

fb_status fb_devices_reserve(const fb_execution *e, fb_buffer **arenas) {
  const fb_plan_spec *spec = &e->plan->spec;
  for (int32_t k = 0; k < spec->n_devices; k++) {
    const fb_plan_device *d = &spec->devices[k];
    size_t bytes = (size_t)e->sizes->values[d->arena_bytes];
    fb_status status = bytes == 0 ? FB_OK : d->device->alloc(d->device, bytes, &arenas[k]);
    if (status != FB_OK)
      return status;
    e->bases[fb_arena_slot(spec) + 3 + (uint32_t)k] = bytes == 0 ? NULL : arenas[k]->data;
  }
  return FB_OK;
}

fb_status fb_devices_output(const fb_execution *e, int32_t output, fb_buffer **out) {
  const fb_plan_spec *spec = &e->plan->spec;
  const fb_output *o = &spec->outputs[output];
  fb_device *d = device_of(spec, spec->output_devices[output]);
  size_t bytes = (size_t)e->sizes->values[o->bytes];
  fb_status status = d->alloc(d, bytes, out);
  if (status == FB_OK && o->mode == FB_OUT_UPDATE) /* its steps read what it was */
    status = d->copy(d, (*out)->data, e->run->inputs[o->source].data, bytes);
  return status;
}

bool fb_devices_have(const fb_plan_spec *spec, const fb_step *step) {
  if (fb_is_control(step->kernel))
    return false;
  if (step->kernel >= 0)
    return spec->kernel_devices[step->kernel] != 0;
  return step->kernel == FB_KERNEL_TRANSFER || fb_ref_device(spec, &spec->refs[step->first_ref]) != 0;
}

/* From one device to another by way of the CPU, whose pool lends the memory. */
static fb_status across(fb_device *to, fb_device *from, void *target, const void *source, size_t bytes) {
  fb_buffer *between;
  fb_status status = fb_pool_take(bytes, &between);
  if (status != FB_OK)
    return status;
  status = from->download(from, between->data, source, bytes);
  if (status == FB_OK)
    status = to->upload(to, target, between->data, bytes);
  fb_buffer_release(between);
  return status;
}

static fb_status move(fb_device *to, fb_device *from, void *target, const void *source, size_t bytes) {
  if (to == from)
    return to->copy(to, target, source, bytes);
  if (from == NULL)
    return to->upload(to, target, source, bytes);
  if (to == NULL)
    return from->download(from, target, source, bytes);
  return across(to, from, target, source, bytes);
}

fb_status fb_devices_step(const fb_execution *e, const fb_step *step) {
  const fb_plan *plan = e->plan;
  const fb_plan_spec *spec = &plan->spec;
  const fb_ref *refs = spec->refs + step->first_ref;
  const int64_t *dims = e->sizes->dims + step->first_dim;
  for (int32_t i = 0; i < step->n_refs; i++) {
    uintptr_t base = (uintptr_t)e->bases[plan->slots[step->first_ref + i]];
    e->bufs[i] = (void *)(base + (uintptr_t)e->sizes->offsets[step->first_ref + i]);
  }
  if (step->kernel < 0)
    return move(device_of(spec, fb_ref_device(spec, &refs[0])), device_of(spec, fb_ref_device(spec, &refs[1])),
                e->bufs[0], e->bufs[1], (size_t)dims[0]);
  for (int i = 0; i < FB_GRID_DIMS; i++)
    if (dims[i] == 0)
      return FB_OK; /* nothing to compute */
  fb_device *d = device_of(spec, spec->kernel_devices[step->kernel]);
  const void *kernel;
  memcpy(&kernel, &spec->kernels[step->kernel], sizeof kernel);
  return d->launch(d, kernel, dims, dims + 3, e->bufs, (size_t)step->n_refs, dims + FB_GRID_DIMS,
                   (size_t)(step->n_dims - FB_GRID_DIMS));
}
