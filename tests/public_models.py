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


def denoising_diffusion_pytorch():
    """A U-Net, and the loss of a diffusion model with it."""
    from denoising_diffusion_pytorch import GaussianDiffusion, Unet

    m = GaussianDiffusion(filled(Unet(dim=8, dim_mults=(1, 2), flash_attn=False)), image_size=16, timesteps=10)
    x, noise = (torch.from_numpy(rng.standard_normal((2, 3, 16, 16)).astype(np.float32)) for _ in range(2))
    return trained(m, lambda: m.p_losses(x, torch.tensor([3, 7]), noise=noise)), None


def torch_geometric():
    from torch_geometric.nn import GCNConv

    first, second = filled(GCNConv(8, 16)), filled(GCNConv(16, 3))
    x = torch.from_numpy(rng.standard_normal((20, 8)).astype(np.float32))
    edges, labels = torch.from_numpy(rng.integers(0, 20, (2, 60))), torch.from_numpy(rng.integers(0, 3, 20))
    optimizer = torch.optim.Adam([*first.parameters(), *second.parameters()], lr=1e-2)
    loss = lambda: nn.functional.cross_entropy(second(first(x, edges).relu(), edges), labels)  # noqa: E731
    return trained(first, loss, optimizer), None


def torchdiffeq():
    """A spiral: by gradients of the solver's steps, then by the adjoint's."""
    from torchdiffeq import odeint, odeint_adjoint

    class Slope(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 2))

        def forward(self, t, y):
            return self.net(y**3)

    m, start, times = filled(Slope()), torch.tensor([[2.0, 0.0]]), torch.linspace(0, 1, 4)
    with torch.no_grad():
        true = odeint(lambda t, y: y**3 @ torch.tensor([[-0.1, 2.0], [-2.0, -0.1]]), start, times)
    optimizer = torch.optim.RMSprop(m.parameters(), lr=1e-3)
    losses = []
    for solve in (odeint, odeint_adjoint):
        losses += trained(m, lambda f=solve: (f(m, start, times) - true).abs().mean(), optimizer)
    return losses, None


def stable_baselines3():
    """The policy of an agent for gymnasium's CartPole, and a round of its own training."""
    import gymnasium
    from stable_baselines3 import PPO

    agent = PPO("MlpPolicy", gymnasium.make("CartPole-v1"), n_steps=16, batch_size=16, n_epochs=1, seed=1, device="cpu")
    policy = filled(agent.policy)
    seen, advantages, returns = (rng.standard_normal(s).astype(np.float32) for s in ((16, 4), 16, 16))
    seen, advantages, returns = map(torch.from_numpy, (seen, advantages, returns))
    actions = torch.from_numpy(rng.integers(0, 2, 16))

    def loss():
        values, log_prob, entropy = policy.evaluate_actions(seen, actions)
        values = nn.functional.mse_loss(returns, values.flatten())
        return 0.5 * values - (advantages * log_prob.exp()).mean() - 0.01 * entropy.mean()

    losses = trained(policy, loss)
    return losses, agent.learn(16).num_timesteps


def bert():
    from transformers import BertConfig, BertForMaskedLM

    sizes = {
        "vocab_size": 20,
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 32,
    }
    m = filled(BertForMaskedLM(BertConfig(**sizes, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)))
    x, mask = tokens(), torch.tensor([[1] * 9, [1] * 6 + [0] * 3])
    return trained(m, lambda: m(input_ids=x, attention_mask=mask, labels=x).loss), None


losses, generated = globals()[sys.argv[1]]()
print(json.dumps({"torch": torch.__version__, "losses": losses, "generated": generated}))
