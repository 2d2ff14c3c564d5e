"""Models of public packages, unchanged, for three steps from weights that NumPy draws: run by test_run.py."""

import json
import sys

import numpy as np
import torch
from torch import nn

rng = np.random.default_rng(0)


def filled(model):
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.from_numpy((rng.standard_normal(tuple(p.shape)) * 0.1).astype(np.float32)))
    return model


def trained(model, loss, optimizer=None):
    optimizer, losses = optimizer or torch.optim.Adam(model.parameters(), lr=1e-3), []
    for _ in range(3):
        optimizer.zero_grad()
        step = loss()
        step.backward()
        optimizer.step()
        losses.append(step.item())
    return losses


def tokens():
    return torch.from_numpy(rng.integers(0, 20, (2, 9)))


def vit_pytorch():
    from vit_pytorch import SimpleViT

    m = filled(SimpleViT(image_size=16, patch_size=8, num_classes=5, dim=16, depth=2, heads=2, mlp_dim=32))
    x = torch.from_numpy(rng.standard_normal((4, 3, 16, 16)).astype(np.float32))
    return trained(m, lambda: nn.functional.cross_entropy(m(x), torch.tensor([0, 1, 2, 3]))), None


def x_transformers():
    from x_transformers import AutoregressiveWrapper, Decoder, TransformerWrapper

    m = filled(TransformerWrapper(num_tokens=20, max_seq_len=16, attn_layers=Decoder(dim=16, depth=2, heads=2)))
    x = tokens()
    losses = trained(m, lambda: nn.functional.cross_entropy(m(x[:, :-1]).transpose(1, 2), x[:, 1:]))
    return losses, AutoregressiveWrapper(m).generate(x[:, :3], 5, temperature=0.0).tolist()


def transformers():
    from transformers import GPT2Config, GPT2LMHeadModel

    sizes = {"vocab_size": 20, "n_positions": 16, "n_embd": 16, "n_layer": 2, "n_head": 2}
    m = filled(GPT2LMHeadModel(GPT2Config(**sizes, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0)))
    x = tokens()
    losses = trained(m, lambda: m(input_ids=x, labels=x).loss)
    m.eval()
    return losses, m.generate(x[:, :3], max_new_tokens=5, do_sample=False, pad_token_id=0).tolist()


def timm():
    from timm import create_model

    m = create_model("resnet18", num_classes=5)
    with torch.no_grad():
        for p in m.parameters():
            if p.dim() > 1:  # those of norms are 1 and 0
                scale = (2 / p[0].numel()) ** 0.5
                p.copy_(torch.from_numpy((rng.standard_normal(tuple(p.shape)) * scale).astype(np.float32)))
        m.fc.bias.zero_()
    x = torch.from_numpy(rng.standard_normal((4, 3, 64, 64)).astype(np.float32))
    loss = lambda: nn.functional.cross_entropy(m(x), torch.tensor([0, 1, 2, 3]))  # noqa: E731
    return trained(m, loss, torch.optim.SGD(m.parameters(), lr=0.05, momentum=0.9)), None


losses, generated = globals()[sys.argv[1]]()
print(json.dumps({"torch": torch.__version__, "losses": losses, "generated": generated}))
